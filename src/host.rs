//! Is this machine fit? Probes it before anything starts, and says for each thing that is missing
//! what to change.

use std::fmt;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::system::uname;

use crate::reactor::{self, BufferSizes};

/// Oldest kernel with everything the net ring uses (`SINGLE_ISSUER` with `DEFER_TASKRUN`).
const KERNEL_MIN: (u32, u32) = (6, 1);

/// What glommio asks for per process.
const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;

/// Descriptors below which a broker is of little use.
const OPEN_FILES_FEW: u64 = 4096;

const DISABLED_SYSCTL: &str = "/proc/sys/kernel/io_uring_disabled";

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Kernel release, as `uname -r` prints it.
    pub kernel: String,
    /// Limit of open files after it was raised.
    pub open_files: Option<u64>,
    /// Not fatal, but worth a line.
    pub warnings: Vec<String>,
}

/// Everything that is missing, one line each.
#[derive(Debug, PartialEq, Eq)]
pub struct Unfit(pub Vec<String>);

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl std::error::Error for Unfit {}

/// Raises the limits of this process as far as they go, and probes the kernel.
///
/// # Errors
/// Lists everything that is missing.
pub fn prepare(buffers: BufferSizes) -> Result<Host, Unfit> {
    let kernel = uname().release().to_string_lossy().into_owned();
    let open_files = raise(Resource::Nofile);
    let memlock = raise(Resource::Memlock);
    let mut problems = Vec::new();
    let mut warnings = Vec::new();

    match parse_release(&kernel) {
        Some(version) if version < KERNEL_MIN => problems.push(format!(
            "kernel {kernel} is too old: muring needs Linux {}.{} or newer",
            KERNEL_MIN.0, KERNEL_MIN.1
        )),
        Some(_) => {}
        None => warnings.push(format!("cannot tell the version of kernel {kernel:?}")),
    }
    // An old kernel lacks some of it for certain; one reason is enough.
    if problems.is_empty() {
        problems.extend(probe_ring(buffers));
    }
    if let Some(limit) = memlock.filter(|limit| *limit < MEMLOCK_BYTES_MIN) {
        problems.push(format!(
            "the limit of locked memory is {limit} bytes, needed are {MEMLOCK_BYTES_MIN}: raise it \
             (systemd: LimitMEMLOCK=infinity, docker: --ulimit memlock=-1, else ulimit -l)"
        ));
    }
    if let Some(limit) = open_files.filter(|limit| *limit < OPEN_FILES_FEW) {
        warnings.push(format!(
            "only {limit} open files are allowed, so that many connections less a few: raise the hard \
             limit (systemd: LimitNOFILE=1048576, docker: --ulimit nofile=1048576)"
        ));
    }
    if problems.is_empty() {
        Ok(Host { kernel, open_files, warnings })
    } else {
        Err(Unfit(problems))
    }
}

/// Raises the soft limit to the hard one; the limit that counts now, `None` if there is none.
fn raise(resource: Resource) -> Option<u64> {
    let before = getrlimit(resource);
    let wanted = Rlimit { current: before.maximum, maximum: before.maximum };
    match setrlimit(resource, wanted) {
        Ok(()) => before.maximum,
        Err(_) => before.current,
    }
}

fn probe_ring(buffers: BufferSizes) -> Option<String> {
    match reactor::probe(buffers) {
        Ok(missing) if missing.is_empty() => None,
        Ok(missing) => Some(format!(
            "this kernel's io_uring lacks: {}; muring needs Linux {}.{} or newer",
            missing.join(", "),
            KERNEL_MIN.0,
            KERNEL_MIN.1
        )),
        Err(error) => {
            let sysctl = std::fs::read_to_string(DISABLED_SYSCTL).ok();
            Some(explain(&error, sysctl.as_deref().map(str::trim)))
        }
    }
}

/// Why no ring could be made, and what to do. `disabled` is the content of the sysctl.
fn explain(error: &io::Error, disabled: Option<&str>) -> String {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => {
            "this kernel has no io_uring, or a seccomp profile hides it: use a kernel with \
             CONFIG_IO_URING, and in a container a profile that allows io_uring_setup, \
             io_uring_enter and io_uring_register"
                .to_owned()
        }
        Some(libc::EPERM) => match disabled {
            Some(value @ ("1" | "2")) => format!(
                "io_uring is disabled (kernel.io_uring_disabled is {value}): run \
                 sysctl -w kernel.io_uring_disabled=0, or with 1 put muring's group into \
                 kernel.io_uring_group"
            ),
            _ => "io_uring is forbidden by a security policy, in containers most often seccomp: \
                  allow io_uring_setup, io_uring_enter and io_uring_register (docker: \
                  --security-opt seccomp=PROFILE)"
                .to_owned(),
        },
        Some(libc::EINVAL) => format!(
            "this kernel's io_uring lacks a mode that muring needs: use Linux {}.{} or newer",
            KERNEL_MIN.0, KERNEL_MIN.1
        ),
        Some(libc::ENOMEM) => {
            "no memory for an io_uring: raise the limit of locked memory (systemd: \
             LimitMEMLOCK=infinity, docker: --ulimit memlock=-1) or use fewer receive buffers"
                .to_owned()
        }
        Some(libc::EMFILE | libc::ENFILE) => {
            "no descriptor for an io_uring: raise the limit of open files (ulimit -n)".to_owned()
        }
        _ => format!("cannot make an io_uring: {error}"),
    }
}

/// Major and minor version of a release such as `6.1.0-13-amd64`.
fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        assert_eq!(parse_release("6.1.0-13-amd64"), Some((6, 1)));
        assert_eq!(parse_release("5.15.0"), Some((5, 15)));
        assert_eq!(parse_release("6.18.44-fc"), Some((6, 18)));
        assert_eq!(parse_release("weird"), None);
        assert!((5, 19) < KERNEL_MIN);
        assert!((6, 1) >= KERNEL_MIN);
    }

    #[track_caller]
    fn check(errno: i32, disabled: Option<&str>, expected: &str) {
        let text = explain(&io::Error::from_raw_os_error(errno), disabled);
        assert!(text.contains(expected), "{text:?}");
    }

    #[test]
    fn each_refusal_has_its_remedy() {
        check(libc::ENOSYS, None, "CONFIG_IO_URING");
        check(libc::EPERM, Some("2"), "sysctl -w kernel.io_uring_disabled=0");
        check(libc::EPERM, Some("0"), "seccomp");
        check(libc::EPERM, None, "seccomp");
        check(libc::EINVAL, None, "6.1");
        check(libc::ENOMEM, None, "LimitMEMLOCK");
    }

    #[test]
    fn this_machine_is_fit() {
        let host = prepare(BufferSizes { count: 8, bytes: 4096 }).unwrap();
        assert!(!host.kernel.is_empty());
    }
}
