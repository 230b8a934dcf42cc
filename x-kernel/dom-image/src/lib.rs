//! bring-up
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;
use alloc::vec::Vec;
use xz4rust::{XzDecoder, XzNextBlockResult};
pub type Res<T> = Result<T, &'static str>;
pub enum Payload<'a> {
    Elf(&'a [u8]),
    Xz(&'a [u8], usize),
}
fn u32at(b: &[u8], o: usize) -> Option<u32> {
    Some(u32::from_le_bytes(b.get(o..o + 4)?.try_into().ok()?))
}
fn u64at(b: &[u8], o: usize) -> Option<u64> {
    Some(u64::from_le_bytes(b.get(o..o + 8)?.try_into().ok()?))
}
fn u16at(b: &[u8], o: usize) -> Option<u16> {
    Some(u16::from_le_bytes(b.get(o..o + 2)?.try_into().ok()?))
}
pub fn open(b: &[u8]) -> Res<Payload<'_>> {
    if b.starts_with(b"\x7fELF") {
        return Ok(Payload::Elf(b));
    }
    if u32at(b, 0x202) == Some(0x53726448) {
        let ss = match b[0x1f1] {
            0 => 4,
            n => n,
        } as usize;
        let o = u32at(b, 0x248).ok_or("short")? as usize;
        let l = u32at(b, 0x24c).ok_or("short")? as usize;
        let p = b.get((ss + 1) * 512 + o..(ss + 1) * 512 + o + l).ok_or("payload out of file")?;
        if p.starts_with(b"\x7fELF") {
            return Ok(Payload::Elf(p));
        }
        if p.starts_with(&[0xfd, 0x37, 0x7a]) {
            return Ok(Payload::Xz(&p[..l - 4], u32at(p, l - 4).ok_or("short")? as usize));
        }
        return Err("unknown payload");
    }
    Err("not a kernel")
}
pub fn unxz(p: &[u8], out: &mut [u8]) -> Res<usize> {
    let mut d = XzDecoder::in_heap_with_alloc_dict_size(32 << 20, 64 << 20);
    let (mut i, mut o) = (0, 0);
    loop {
        match d.decode(p.get(i..).ok_or("in")?, out.get_mut(o..).ok_or("out")?) {
            Ok(XzNextBlockResult::NeedMoreData(a, b)) => {
                if a == 0 && b == 0 {
                    return Err("stuck");
                }
                i += a;
                o += b;
            }
            Ok(XzNextBlockResult::EndOfStream(_, b)) => return Ok(o + b),
            Err(_) => return Err("xz"),
        }
    }
}
#[derive(Debug)]
pub struct Segment {
    pub vaddr: u64,
    pub off: usize,
    pub filesz: usize,
    pub memsz: u64,
}
#[derive(Debug)]
pub struct Kernel {
    pub segs: Vec<Segment>,
    pub entry: u64,
    pub virt_base: u64,
    pub hypercall_page: Option<u64>,
    pub init_p2m: Option<u64>,
    pub mod_start_pfn: bool,
    pub vstart: u64,
    pub vend: u64,
}
pub fn parse(b: &[u8]) -> Res<Kernel> {
    let e = "bad ELF";
    if u16at(b, 18) != Some(62) || b.get(4) != Some(&2) {
        return Err("not x86-64");
    }
    let ph = u64at(b, 32).ok_or(e)? as usize;
    let n = u16at(b, 56).ok_or(e)? as usize;
    let mut k = Kernel {
        segs: Vec::new(),
        entry: u64at(b, 24).ok_or(e)?,
        virt_base: 0,
        hypercall_page: None,
        init_p2m: None,
        mod_start_pfn: false,
        vstart: u64::MAX,
        vend: 0,
    };
    let mut seen = false;
    for i in 0..n {
        let p = ph + i * 56;
        let ty = u32at(b, p).ok_or(e)?;
        let off = u64at(b, p + 8).ok_or(e)? as usize;
        let va = u64at(b, p + 16).ok_or(e)?;
        let pa = u64at(b, p + 24).ok_or(e)?;
        let fs = u64at(b, p + 32).ok_or(e)? as usize;
        let ms = u64at(b, p + 40).ok_or(e)?;
        if ty == 1 {
            b.get(off..off + fs).ok_or("segment")?;
            k.segs.push(Segment { vaddr: pa, off, filesz: fs, memsz: ms });
            let _ = va;
        }
        if ty == 4 {
            let d = b.get(off..off + fs).ok_or("note")?;
            let mut o = 0;
            while o + 12 <= d.len() {
                let ns = u32at(d, o).ok_or(e)? as usize;
                let ds = u32at(d, o + 4).ok_or(e)? as usize;
                let t = u32at(d, o + 8).ok_or(e)?;
                let name = d.get(o + 12..o + 12 + ns).unwrap_or(&[]);
                let dp = o + 12 + ((ns + 3) & !3);
                if name == b"Xen\0" {
                    seen = true;
                    let v = if ds == 8 { u64at(d, dp) } else { u32at(d, dp).map(u64::from) };
                    match t {
                        1 => k.entry = v.ok_or(e)?,
                        2 => k.hypercall_page = v,
                        3 => k.virt_base = v.ok_or(e)?,
                        15 => k.init_p2m = v,
                        16 => k.mod_start_pfn = v == Some(1),
                        _ => {}
                    }
                }
                o = dp + ((ds + 3) & !3);
            }
        }
    }
    if !seen {
        return Err("no Xen notes");
    }
    for s in &mut k.segs {
        s.vaddr = s.vaddr.wrapping_add(k.virt_base);
        k.vstart = k.vstart.min(s.vaddr);
        k.vend = k.vend.max(s.vaddr + s.memsz)
    }
    Ok(k)
}
