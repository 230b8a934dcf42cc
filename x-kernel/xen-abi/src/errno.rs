//! Error numbers (errno.h): the same values as Linux on x86.
//!
//! A hypercall returns them negated in rax. Xen has no number between the ones listed, so a value read from
//! elsewhere goes through [`Errno::from_ret`].

/// Declares the enumeration with its names from one list.
macro_rules! errnos {
    ($($(#[$meta:meta])* $name:ident = $value:literal,)*) => {
        /// Why a hypercall was refused.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        #[repr(u16)]
        pub enum Errno { $($(#[$meta])* $name = $value,)* }

        impl Errno {
            /// All of them, in ascending order.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The symbol, as in `EINVAL`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// The error of a positive number.
            pub const fn from_raw(raw: u16) -> Option<Self> {
                match raw { $($value => Some(Self::$name),)* _ => None }
            }
        }
    };
}

errnos! {
    /// Operation not permitted.
    EPERM = 1,
    /// No such file or directory.
    ENOENT = 2,
    /// No such process.
    ESRCH = 3,
    /// Interrupted system call.
    EINTR = 4,
    /// I/O error.
    EIO = 5,
    /// No such device or address.
    ENXIO = 6,
    /// Arg list too long.
    E2BIG = 7,
    /// Exec format error.
    ENOEXEC = 8,
    /// Bad file number.
    EBADF = 9,
    /// No child processes.
    ECHILD = 10,
    /// Try again.
    EAGAIN = 11,
    /// Out of memory.
    ENOMEM = 12,
    /// Permission denied.
    EACCES = 13,
    /// Bad address.
    EFAULT = 14,
    /// Device or resource busy.
    EBUSY = 16,
    /// File exists.
    EEXIST = 17,
    /// Cross-device link.
    EXDEV = 18,
    /// No such device.
    ENODEV = 19,
    /// Not a directory.
    ENOTDIR = 20,
    /// Is a directory.
    EISDIR = 21,
    /// Invalid argument.
    EINVAL = 22,
    /// File table overflow.
    ENFILE = 23,
    /// Too many open files.
    EMFILE = 24,
    /// No space left on device.
    ENOSPC = 28,
    /// Read-only file system.
    EROFS = 30,
    /// Too many links.
    EMLINK = 31,
    /// Math argument out of domain of func.
    EDOM = 33,
    /// Math result not representable.
    ERANGE = 34,
    /// Resource deadlock would occur.
    EDEADLK = 35,
    /// File name too long.
    ENAMETOOLONG = 36,
    /// No record locks available.
    ENOLCK = 37,
    /// Function not implemented.
    ENOSYS = 38,
    /// Directory not empty.
    ENOTEMPTY = 39,
    /// No data available.
    ENODATA = 61,
    /// Timer expired.
    ETIME = 62,
    /// Not a data message.
    EBADMSG = 74,
    /// Value too large for defined data type.
    EOVERFLOW = 75,
    /// Illegal byte sequence.
    EILSEQ = 84,
    /// Interrupted system call should be restarted.
    ERESTART = 85,
    /// Socket operation on non-socket.
    ENOTSOCK = 88,
    /// Message too large.
    EMSGSIZE = 90,
    /// Operation not supported on transport endpoint.
    EOPNOTSUPP = 95,
    /// Address already in use.
    EADDRINUSE = 98,
    /// Cannot assign requested address.
    EADDRNOTAVAIL = 99,
    /// No buffer space available.
    ENOBUFS = 105,
    /// Transport endpoint is already connected.
    EISCONN = 106,
    /// Transport endpoint is not connected.
    ENOTCONN = 107,
    /// Connection timed out.
    ETIMEDOUT = 110,
    /// Connection refused.
    ECONNREFUSED = 111,
}

impl Errno {
    /// The other name of [`Errno::EAGAIN`].
    pub const EWOULDBLOCK: Self = Self::EAGAIN;
    /// The other name of [`Errno::EDEADLK`].
    pub const EDEADLOCK: Self = Self::EDEADLK;

    /// The positive number.
    pub const fn raw(self) -> u16 {
        self as u16
    }

    /// What a hypercall returns: the negated number.
    pub const fn to_ret(self) -> i64 {
        (self as u16 as i64).wrapping_neg()
    }

    /// The error in a hypercall's return value, if it is one of those known here.
    pub const fn from_ret(ret: i64) -> Option<Self> {
        match ret {
            // The mask loses nothing: `-ret` is at most 4095.
            -4095..=-1 => Self::from_raw((ret.unsigned_abs() & 0xffff) as u16),
            _ => None,
        }
    }
}

impl core::fmt::Display for Errno {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

impl core::error::Error for Errno {}

#[cfg(test)]
mod tests {
    use super::Errno;

    #[test]
    fn return_values_convert_both_ways() {
        for &errno in Errno::ALL {
            assert!(errno.to_ret() < 0);
            assert_eq!(Errno::from_ret(errno.to_ret()), Some(errno));
            assert_eq!(Errno::from_raw(errno.raw()), Some(errno));
        }
        for ret in [0, 1, 38, -15, -4096, i64::MIN, i64::MAX] {
            assert_eq!(Errno::from_ret(ret), None, "{ret}");
        }
    }

    #[test]
    fn the_list_ascends() {
        assert!(Errno::ALL.is_sorted_by_key(|e| e.raw()));
    }

    #[test]
    fn names_are_the_symbols() {
        assert_eq!(Errno::E2BIG.name(), "E2BIG");
        assert_eq!(Errno::EWOULDBLOCK.name(), "EAGAIN");
    }
}
