//! The steps between clone and exec, as data: the host writes them down, the spawner's child carries them out.
//! A step that fails is reported by its number; the host keeps the words for it.

use std::ffi::CString;

use crate::wire::{Fd, Malformed, Reader, Wire};

macro_rules! ops {
    ($($(#[$doc:meta])* $name:ident { $($field:ident : $kind:ty),* },)*) => {
        /// One step.
        #[derive(Debug)]
        pub(crate) enum Op { $($(#[$doc])* $name { $($field: $kind),* },)* }

        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        #[repr(u8)]
        enum Tag { $($name,)* }

        impl Wire for Op {
            fn put(&self, out: &mut Vec<u8>) {
                match self {
                    $(Op::$name { $($field),* } => { out.push(Tag::$name as u8); $($field.put(out);)* })*
                }
            }
            fn get(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
                let tag = u8::get(reader)?;
                $(if tag == Tag::$name as u8 {
                    return Ok(Op::$name { $($field: <$kind>::get(reader)?),* });
                })*
                Err(Malformed)
            }
        }
    };
}

ops! {
    /// Move into the cgroup whose `cgroup.procs` this is.
    Cgroup { procs: Fd },
    /// A new cgroup namespace: the cgroups that were joined are its roots.
    CgroupNamespace {},
    /// Join namespaces.
    Join { fd: Fd, kinds: i32 },
    /// Set the host name.
    Hostname { name: CString },
    /// Bring loopback up in the current network namespace.
    Loopback {},
    /// The root: layers top first, under an upper and its work directory.
    Overlay { lowers: Vec<CString>, upper: Option<(CString, CString)>, userxattr: bool, volatile: bool, at: CString },
    /// The same by the older mount call, whose options fit on one page.
    OverlayLegacy { options: CString, at: CString },
    /// The root: a directory.
    RootDir { path: CString, readonly: bool, at: CString },
    /// A new filesystem; where it is refused for want of privilege, `instead` is bound.
    Filesystem {
        kind: CString, options: Vec<(CString, Option<CString>)>, attributes: u64, target: CString, system: bool,
        instead: Option<CString>
    },
    /// `/dev` with its nodes (made, or bound from the host) and links.
    Dev { bind: bool },
    /// A file or directory of the host.
    Bind { path: CString, recursive: bool, attributes: u64, target: CString, system: bool },
    /// Cover a path, where it is there.
    Mask { path: CString, empty: CString },
    /// Make a path read-only, where it is there.
    Readonly { path: CString },
    /// Write a kernel parameter.
    Sysctl { path: CString, value: CString },
    /// Make the root the root.
    Pivot {},
    /// Attributes of the root's mount.
    RootAttributes { attributes: u64 },
    /// Go to the working directory.
    Directory { path: CString, create: bool },
    /// Write `/proc/self/oom_score_adj`.
    OomScore { value: CString },
    /// The standard streams.
    Streams { stdin: Fd, stdout: Fd, stderr: Fd },
    /// A new terminal of this user in the container's `/dev/pts` as the standard streams, and as the controlling one;
    /// its other end goes through the socket.
    Terminal { socket: Fd, uid: u32 },
    /// A resource limit.
    Limit { resource: u32, soft: u64, hard: u64 },
    /// Drop from the bounding set what is not among these.
    Bounding { keep: u64 },
    /// Supplementary groups.
    Groups { groups: Vec<u32> },
    /// Group id.
    Group { gid: u32 },
    /// User id.
    User { uid: u32 },
    /// Effective and permitted capabilities.
    Capabilities { bits: u64 },
    /// `no_new_privs`.
    NoNewPrivs {},
    /// System call filter.
    Seccomp { filter: Filter },
    /// Die with the spawner.
    DieWithParent {},
    /// Execute: the open file, or the first of the candidates that is there.
    Exec { fd: Option<Fd>, candidates: Vec<CString>, argv: Strings, envp: Strings },
}

/// All that the spawner needs for one process.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Flags of clone: the new namespaces.
    pub(crate) flags: u64,
    /// Be in the pid namespace of this process.
    pub(crate) pid_of: Option<Fd>,
    /// The child enters an existing container, whose processes could look at it: share no memory with it.
    pub(crate) apart: bool,
    pub(crate) ops: Vec<Op>,
}

impl Wire for Plan {
    fn put(&self, out: &mut Vec<u8>) {
        self.flags.put(out);
        self.pid_of.put(out);
        self.apart.put(out);
        self.ops.put(out);
    }
    fn get(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Plan {
            flags: Wire::get(reader)?,
            pid_of: Wire::get(reader)?,
            apart: Wire::get(reader)?,
            ops: Wire::get(reader)?,
        })
    }
}

/// A null-terminated array of strings, ready for exec.
#[derive(Debug)]
pub(crate) struct Strings {
    strings: Vec<CString>,
    pointers: Vec<*const libc::c_char>,
}

impl Strings {
    pub(crate) fn new(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect();
        Strings { strings, pointers }
    }

    /// The pointers, with the null at the end. They point to the heap: moving `self` leaves them valid.
    pub(crate) fn pointers(&self) -> &[*const libc::c_char] {
        &self.pointers
    }
}

// SAFETY: the pointers point into `strings`, which the value owns and never changes.
unsafe impl Send for Strings {}
// SAFETY: as above; nothing is written through a shared reference.
unsafe impl Sync for Strings {}

impl Wire for Strings {
    fn put(&self, out: &mut Vec<u8>) {
        self.strings.put(out);
    }
    fn get(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Strings::new(Wire::get(reader)?))
    }
}

/// A compiled filter.
#[derive(Debug, Clone)]
pub(crate) struct Filter(pub(crate) Vec<libc::sock_filter>);

impl Wire for Filter {
    fn put(&self, out: &mut Vec<u8>) {
        (self.0.len() as u32).put(out);
        for i in &self.0 {
            (i.code, (i.jt, (i.jf, i.k))).put(out);
        }
    }
    fn get(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        type Instruction = (u16, (u8, (u8, u32)));
        let items: Vec<Instruction> = Wire::get(reader)?;
        Ok(Filter(items.into_iter().map(|(code, (jt, (jf, k)))| libc::sock_filter { code, jt, jf, k }).collect()))
    }
}
