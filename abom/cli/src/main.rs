//! tmp
mod elf; mod program; mod redzone; mod scan; mod unwind;
fn main() -> anyhow::Result<()> {
    for f in std::env::args().skip(1) {
        let data = elf::read(f.as_ref())?;
        let p = program::Program::new(elf::Elf::parse(&data)?);
        let r = scan::report(&f, &p, &scan::ways());
        println!("{f}: {} sites, {} eligible {:.1} funcs {} {:#?} {:#?}", r.sites, r.eligible, 100.0*r.eligible as f64/r.sites as f64, p.functions.len(), r.patterns, r.refusals);
        for s in &r.list { if let Some(x) = s.refusal { println!("  {:#x} {x}", s.address) } }
    }
    Ok(())
}
