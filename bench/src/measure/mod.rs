//! What the machine says about processes: CPU time, memory, and what others took meanwhile.

pub(crate) mod machine;
pub(crate) mod process;
pub(crate) mod syscalls;
