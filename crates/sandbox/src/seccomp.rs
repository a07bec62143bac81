//! System call filters, compiled once to a balanced tree of number ranges. The kernel runs a filter once for each
//! number when it is loaded: a tree of some hundred instructions costs next to nothing, a linear list a millisecond.

use std::sync::OnceLock;

use crate::{Capabilities, op::Filter};

/// Which filter a process gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SeccompProfile {
    /// The allow list that container engines use by default; what a granted capability is for is allowed with it.
    #[default]
    Default,
    /// None.
    Unconfined,
}

const RET: u16 = 0x06;
const LD_ABS: u16 = 0x20;
const JEQ: u16 = 0x15;
const JGE: u16 = 0x35;
const JA: u16 = 0x05;
const AND: u16 = 0x54;

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const KILL_PROCESS: u32 = 0x8000_0000;

#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;

/// Flags of clone that make namespaces.
const CLONE_NAMESPACES: u32 = 0x7e02_0000;

/// What happens to one call.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    Allow,
    Errno(u32),
    /// Allowed where argument 0 and the mask is zero.
    Arg0Without(u32),
    /// Allowed where argument 0 is not this.
    Arg0Not(u32),
    /// Allowed where argument 0 is one of these.
    Arg0In(&'static [u32]),
}

impl Rule {
    fn emit(&self, out: &mut Vec<libc::sock_filter>) {
        let denied = ERRNO | libc::EPERM as u32;
        let load = stmt(LD_ABS, 16); // low half of argument 0 on little endian
        match self {
            Rule::Allow => out.push(stmt(RET, ALLOW)),
            Rule::Errno(errno) => out.push(stmt(RET, ERRNO | errno)),
            Rule::Arg0Without(mask) => {
                out.extend([load, stmt(AND, *mask), jump(JEQ, 0, 0, 1), stmt(RET, ALLOW), stmt(RET, denied)]);
            }
            Rule::Arg0Not(value) => {
                out.extend([load, jump(JEQ, *value, 0, 1), stmt(RET, denied), stmt(RET, ALLOW)]);
            }
            Rule::Arg0In(values) => {
                out.push(load);
                for value in *values {
                    out.extend([jump(JEQ, *value, 0, 1), stmt(RET, ALLOW)]);
                }
                out.push(stmt(RET, denied));
            }
        }
    }
}

fn stmt(code: u16, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt: 0, jf: 0, k }
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

impl SeccompProfile {
    /// The program, or nothing where calls are not filtered.
    pub(crate) fn filter(self, capabilities: Capabilities) -> Option<Filter> {
        static DEFAULT: OnceLock<Filter> = OnceLock::new();
        match self {
            SeccompProfile::Unconfined => None,
            SeccompProfile::Default if capabilities == Capabilities::default() => {
                Some(DEFAULT.get_or_init(|| compile(&rules(capabilities))).clone())
            }
            SeccompProfile::Default => Some(compile(&rules(capabilities))),
        }
    }
}

/// Ranges `(first number, rule)`, sorted, from 0; each reaches to the next.
fn rules(capabilities: Capabilities) -> Vec<(u32, Rule)> {
    let has = |bit: u32| capabilities.bits() & (1 << bit) != 0;
    let admin = has(21);
    let mut single: std::collections::BTreeMap<u32, Rule> =
        crate::syscalls::ALLOWED.iter().map(|nr| (*nr as u32, Rule::Allow)).collect();
    for (bit, numbers) in crate::syscalls::BY_CAPABILITY {
        if has(*bit) {
            single.extend(numbers.iter().map(|nr| (*nr as u32, Rule::Allow)));
        }
    }
    let special = [
        (libc::SYS_socket, Rule::Arg0Not(libc::AF_VSOCK as u32)),
        (libc::SYS_personality, Rule::Arg0In(&[0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff])),
        (libc::SYS_clone, if admin { Rule::Allow } else { Rule::Arg0Without(CLONE_NAMESPACES) }),
        // Its flags are behind a pointer: programs fall back to clone.
        (libc::SYS_clone3, if admin { Rule::Allow } else { Rule::Errno(libc::ENOSYS as u32) }),
    ];
    single.extend(special.into_iter().map(|(nr, rule)| (nr as u32, rule)));

    let known = single.keys().next_back().copied().unwrap_or(0).max(crate::syscalls::NEWEST_KNOWN as u32);
    let mut ranges: Vec<(u32, Rule)> = Vec::new();
    let mut add = |first: u32, rule: Rule| match ranges.last() {
        Some((_, before)) if *before == rule => {}
        _ => ranges.push((first, rule)),
    };
    let mut next = 0;
    for (number, rule) in single {
        if number > next {
            add(next, Rule::Errno(libc::EPERM as u32));
        }
        add(number, rule);
        next = number + 1;
    }
    if known >= next {
        add(next, Rule::Errno(libc::EPERM as u32));
    }
    // Newer than this list: programs try something older, as they would on an older kernel.
    add(known + 1, Rule::Errno(libc::ENOSYS as u32));
    ranges
}

fn compile(ranges: &[(u32, Rule)]) -> Filter {
    let mut out = vec![
        stmt(LD_ABS, 4),
        jump(JEQ, ARCH, 1, 0),
        // 32-bit programs: their numbers mean other calls.
        stmt(RET, KILL_PROCESS),
        stmt(LD_ABS, 0),
    ];
    tree(ranges, &mut out);
    Filter(out)
}

fn tree(ranges: &[(u32, Rule)], out: &mut Vec<libc::sock_filter>) {
    match ranges {
        [] => {}
        [(_, rule)] => rule.emit(out),
        _ => {
            let (low, high) = ranges.split_at(ranges.len() / 2);
            let mut left = Vec::new();
            tree(low, &mut left);
            let pivot = high.first().map_or(0, |(first, _)| *first);
            match u8::try_from(left.len()) {
                Ok(skip) => out.push(jump(JGE, pivot, skip, 0)),
                Err(_) => out.extend([jump(JGE, pivot, 0, 1), stmt(JA, left.len() as u32)]),
            }
            out.extend(left);
            tree(high, out);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Runs the filter as the kernel would.
    fn verdict(filter: &Filter, arch: u32, number: u32, arg0: u32) -> u32 {
        let (mut pc, mut a) = (0usize, 0u32);
        loop {
            let i = &filter.0[pc];
            pc += 1;
            match i.code {
                LD_ABS => a = [(0, number), (4, arch), (16, arg0)].iter().find(|(at, _)| *at == i.k).unwrap().1,
                AND => a &= i.k,
                JA => pc += i.k as usize,
                JEQ => pc += if a == i.k { i.jt } else { i.jf } as usize,
                JGE => pc += if a >= i.k { i.jt } else { i.jf } as usize,
                RET => return i.k,
                other => panic!("unknown instruction {other}"),
            }
        }
    }

    #[test]
    fn every_number_has_its_rule() {
        let capabilities = Capabilities::default();
        let filter = SeccompProfile::Default.filter(capabilities).unwrap();
        assert!(filter.0.len() < 300, "{} instructions", filter.0.len());
        let ask = |number: libc::c_long, arg0| verdict(&filter, ARCH, number as u32, arg0);
        let (denied, unknown) = (ERRNO | libc::EPERM as u32, ERRNO | libc::ENOSYS as u32);
        for number in crate::syscalls::ALLOWED {
            assert_eq!(ask(*number, 0), ALLOW, "{number}");
        }
        for number in [
            libc::SYS_mount,
            libc::SYS_unshare,
            libc::SYS_keyctl,
            libc::SYS_bpf,
            libc::SYS_setns,
            libc::SYS_init_module,
            libc::SYS_kexec_load,
            libc::SYS_open_by_handle_at,
            libc::SYS_userfaultfd,
        ] {
            assert_eq!(ask(number, 0), denied, "{number}");
        }
        assert_eq!(ask(libc::SYS_clone, 0x11), ALLOW);
        assert_eq!(ask(libc::SYS_clone, libc::CLONE_NEWUSER as u32), denied);
        assert_eq!(ask(libc::SYS_clone3, 0), unknown);
        assert_eq!(ask(libc::SYS_socket, libc::AF_INET as u32), ALLOW);
        assert_eq!(ask(libc::SYS_socket, libc::AF_VSOCK as u32), denied);
        assert_eq!(ask(libc::SYS_personality, 0x40000), denied);
        assert_eq!(ask(libc::SYS_personality, 0xffff_ffff), ALLOW);
        assert_eq!(ask(1000, 0), unknown);
        assert_eq!(verdict(&filter, 0x4000_0003, libc::SYS_read as u32, 0), KILL_PROCESS);

        let admin = Capabilities::parse("SYS_ADMIN").unwrap();
        let filter = SeccompProfile::Default.filter(capabilities.with(admin)).unwrap();
        assert_eq!(verdict(&filter, ARCH, libc::SYS_mount as u32, 0), ALLOW);
        assert_eq!(verdict(&filter, ARCH, libc::SYS_clone3 as u32, 0), ALLOW);
    }
}
