//! Whether the kernel gives huge pages to who asks for them.
//!
//! mimalloc turns them off for the whole process when it starts: in the kernel's mode `always` each
//! small heap would grow by megabytes. [`allow`] turns them on again for advised memory alone, as far as
//! that can be had.

use std::fmt;
use std::fs;
use std::io;

const MODE: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
/// The mode for pages of [`super::HUGE`], on kernels that have more than one size.
const MODE_OF_SIZE: &str = "/sys/kernel/mm/transparent_hugepage/hugepages-2048kB/enabled";

/// Linux 6.18: all but advised memory. Not in `libc` yet.
const PR_THP_DISABLE_EXCEPT_ADVISED: libc::c_ulong = 1 << 1;

/// What the broker's large memory gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HugePages {
    /// Huge pages for advised memory, small ones for all else.
    Advised,
    /// Huge pages for all memory, because `MIMALLOC_ALLOW_THP` says so and the mode is `always`.
    Everywhere,
    /// Small pages: the kernel's mode is `never`.
    Never,
    /// Small pages: the mode is `always`, and this kernel knows no exception from turning it off.
    AllOrNothing,
    /// Small pages: the kernel has no others, or does not tell, or does not let us.
    Unknown,
}

impl fmt::Display for HugePages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Advised => "huge pages: for large indexes",
            Self::Everywhere => {
                "huge pages: for all memory, as MIMALLOC_ALLOW_THP asks; small heaps take more"
            }
            Self::Never => {
                "huge pages: none, the kernel's mode is never; large indexes are quicker with madvise \
                 (/sys/kernel/mm/transparent_hugepage/enabled)"
            }
            Self::AllOrNothing => {
                "huge pages: none, as the kernel's mode is always and before Linux 6.18 all memory \
                 would get them; large indexes are quicker with madvise \
                 (/sys/kernel/mm/transparent_hugepage/enabled)"
            }
            Self::Unknown => "huge pages: none to be had",
        })
    }
}

/// The process's flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flag {
    /// Nothing is turned off.
    Clear,
    /// Huge pages are turned off but for advised memory.
    ExceptAdvised,
}

/// Turns huge pages on for advised memory, if they are off, and says what there is. To be called once,
/// at the start of the program.
#[must_use]
pub fn allow() -> HugePages {
    let read = |path| fs::read_to_string(path).ok();
    let mode = in_force(read(MODE).as_deref(), read(MODE_OF_SIZE).as_deref());
    choose(mode, is_allowed(), |flag| set(flag).is_ok())
}

/// `is_allowed`: nobody turned huge pages off. `set` sets the flag and tells whether it could.
fn choose(mode: Option<Mode>, is_allowed: bool, mut set: impl FnMut(Flag) -> bool) -> HugePages {
    match mode {
        None => HugePages::Unknown,
        Some(Mode::Never) => HugePages::Never,
        Some(Mode::Always) if is_allowed => HugePages::Everywhere,
        Some(Mode::Madvise) if is_allowed => HugePages::Advised,
        Some(_) if set(Flag::ExceptAdvised) => HugePages::Advised,
        Some(Mode::Always) => HugePages::AllOrNothing,
        // Here nothing but advised memory gets huge pages anyway.
        Some(Mode::Madvise) if set(Flag::Clear) => HugePages::Advised,
        Some(Mode::Madvise) => HugePages::Unknown,
    }
}

/// Who gets huge pages on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Always,
    Madvise,
    Never,
}

/// The mode for our size, from both files' contents.
fn in_force(general: Option<&str>, of_size: Option<&str>) -> Option<Mode> {
    let chosen = |text: Option<&str>| {
        let (_, rest) = text?.split_once('[')?;
        let (word, _) = rest.split_once(']')?;
        Some(word.to_owned())
    };
    let word = chosen(of_size).filter(|word| word != "inherit").or_else(|| chosen(general))?;
    match word.as_str() {
        "always" => Some(Mode::Always),
        "madvise" => Some(Mode::Madvise),
        "never" => Some(Mode::Never),
        _ => None,
    }
}

fn is_allowed() -> bool {
    let zero: libc::c_ulong = 0;
    // SAFETY: it reads a flag of the process and touches no memory of ours.
    unsafe { libc::prctl(libc::PR_GET_THP_DISABLE, zero, zero, zero, zero) == 0 }
}

fn set(flag: Flag) -> io::Result<()> {
    let zero: libc::c_ulong = 0;
    let (is_disabled, exception): (libc::c_ulong, _) = match flag {
        Flag::Clear => (0, zero),
        Flag::ExceptAdvised => (1, PR_THP_DISABLE_EXCEPT_ADVISED),
    };
    // SAFETY: it sets a flag of the process and touches no memory of ours.
    let result =
        unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, is_disabled, exception, zero, zero) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read() {
        let general = Some("always [madvise] never\n");
        assert_eq!(in_force(general, None), Some(Mode::Madvise));
        assert_eq!(in_force(general, Some("always [inherit] madvise never")), Some(Mode::Madvise));
        assert_eq!(in_force(general, Some("[always] inherit madvise never")), Some(Mode::Always));
        assert_eq!(in_force(Some("always madvise [never]"), None), Some(Mode::Never));
        assert_eq!(in_force(None, None), None);
        assert_eq!(in_force(Some("[other]"), None), None);
    }

    /// What is chosen where the kernel agrees to these flags alone, and which are asked for.
    #[track_caller]
    fn check(mode: Option<Mode>, is_allowed: bool, agrees: &[Flag], asked: &[Flag]) -> HugePages {
        let mut seen = Vec::new();
        let chosen = choose(mode, is_allowed, |flag| {
            seen.push(flag);
            agrees.contains(&flag)
        });
        assert_eq!(seen, asked);
        chosen
    }

    #[test]
    fn advised_memory_gets_them_and_no_other_does() {
        use Flag::{Clear, ExceptAdvised};
        use Mode::{Always, Madvise, Never};
        let new = [Clear, ExceptAdvised];
        let old = [Clear];
        let both = [ExceptAdvised, Clear];
        assert_eq!(check(Some(Madvise), false, &new, &[ExceptAdvised]), HugePages::Advised);
        assert_eq!(check(Some(Always), false, &new, &[ExceptAdvised]), HugePages::Advised);
        assert_eq!(check(Some(Madvise), false, &old, &both), HugePages::Advised);
        assert_eq!(check(Some(Always), false, &old, &[ExceptAdvised]), HugePages::AllOrNothing);
        assert_eq!(check(Some(Madvise), false, &[], &both), HugePages::Unknown);
        assert_eq!(check(Some(Never), false, &new, &[]), HugePages::Never);
        assert_eq!(check(None, false, &new, &[]), HugePages::Unknown);
        // Who set MIMALLOC_ALLOW_THP keeps what was asked for.
        assert_eq!(check(Some(Always), true, &new, &[]), HugePages::Everywhere);
        assert_eq!(check(Some(Madvise), true, &new, &[]), HugePages::Advised);
    }
}
