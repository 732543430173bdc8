#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::transport::proxy(data));
