//! Filters of system calls.

fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

/// On to the next statement if the word is `k`, or over `jf` of them.
fn jump(k: u32, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, jt: 0, jf, k }
}

/// From now on system call `number` has the result `action` of a filter, if its first argument is `argument` where one is
/// given; everything else is allowed. For this process and its children, for good.
///
/// # Panics
/// If there is no such filter.
pub fn filter(number: i64, argument: Option<u32>, action: u32) {
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    // Offsets in seccomp_data: the number at 0, the first argument at 16.
    let tests = argument.map_or(vec![], |argument| vec![statement(load, 16), jump(argument, 1)]);
    let mut program = vec![statement(load, 0), jump(number as u32, tests.len() as u8 + 1)];
    program.extend(tests);
    program.push(statement(libc::BPF_RET | libc::BPF_K, action));
    program.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: no memory is named.
    unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: the program is read.
    let done = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) };
    assert_eq!(done, 0, "PR_SET_SECCOMP");
}
