//! What is known of the places where a domain's processes make system calls by the instruction.
//!
//! A site is told by its place in its page and the bytes that end with it: the same library is the same site in every
//! process, wherever it is mapped. Two sites may be taken for one another; that costs a patch, and nothing else, for
//! whoever writes one looks at the real bytes. The table is small and of fixed size; a site that has the place of another
//! begins anew.

use alloc::vec::Vec;

/// Sites that are remembered.
const PLACES: usize = 1024;
/// The kernel is asked so often for a page of its own before the site is left alone.
pub const MOST_WISHES: u8 = 10;

/// A site.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Site {
    /// Offset in its page.
    offset: u16,
    /// The eight bytes that end with the instruction.
    bytes: u64,
}

impl Site {
    /// The site at `address`, whose last eight bytes are `bytes`.
    #[must_use]
    pub const fn new(address: u64, bytes: [u8; 8]) -> Self {
        Self { offset: (address & 0xfff) as u16, bytes: u64::from_le_bytes(bytes) }
    }

    /// The bytes that end with it.
    #[must_use]
    pub const fn bytes(self) -> [u8; 8] {
        self.bytes.to_le_bytes()
    }

    fn place(self) -> usize {
        let mixed = (self.bytes ^ u64::from(self.offset)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 54) as usize % PLACES
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// Its page is wanted, and was asked for so often.
    Wanted(u8),
    /// It stays as it is.
    Left,
}

/// What to do about a site that has trapped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Next {
    /// Nothing.
    Nothing,
    /// Ask for its page: at once, for all processes share the patch, and most of them are short-lived.
    Ask,
    /// It was asked for often enough, and is left alone from now on.
    GiveUp,
}

/// The table of sites.
#[derive(Debug)]
pub struct Sites {
    places: Vec<(Site, State)>,
}

impl Sites {
    /// A table in which nothing is known.
    ///
    /// # Errors
    /// None when memory is short.
    #[must_use]
    pub fn new() -> Option<Self> {
        let mut places = Vec::new();
        places.try_reserve_exact(PLACES).ok()?;
        places.resize(PLACES, (Site::default(), State::Wanted(0)));
        Some(Self { places })
    }

    fn state(&mut self, site: Site) -> Option<&mut State> {
        let (known, state) = self.places.get_mut(site.place())?;
        if *known != site {
            (*known, *state) = (site, State::Wanted(0));
        }
        Some(state)
    }

    /// `site` has trapped.
    pub fn trapped(&mut self, site: Site) -> Next {
        let Some(state) = self.state(site) else { return Next::Nothing };
        let (next, then) = match *state {
            State::Wanted(wishes) if wishes < MOST_WISHES => (Next::Ask, State::Wanted(wishes.saturating_add(1))),
            State::Wanted(_) => (Next::GiveUp, State::Left),
            State::Left => (Next::Nothing, State::Left),
        };
        *state = then;
        next
    }

    /// A patch of `site` was planned: whether there is one.
    pub fn settle(&mut self, site: Site, planned: bool) {
        if let Some(state) = self.state(site) {
            *state = if planned { State::Wanted(0) } else { State::Left };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    fn trapped(sites: &mut Sites, site: Site, times: usize) -> Vec<Next> {
        (0..times).map(|_| sites.trapped(site)).collect()
    }

    #[test]
    fn a_site_is_asked_for_until_it_is_planned() {
        let mut sites = Sites::new().unwrap();
        let wishes = usize::from(MOST_WISHES);
        assert!(trapped(&mut sites, Site::new(0x7f00_1234_5678, *b"abcdefgh"), wishes).iter().all(|&n| n == Next::Ask));
        // The same place of the same library, elsewhere.
        let elsewhere = Site::new(0x5500_0000_0678, *b"abcdefgh");
        sites.settle(elsewhere, true);
        let asked = trapped(&mut sites, elsewhere, wishes + 2);
        assert!(asked[..wishes].iter().all(|&n| n == Next::Ask));
        assert_eq!(asked[wishes..], [Next::GiveUp, Next::Nothing]);
    }

    #[test]
    fn a_refused_site_is_left_alone() {
        let mut sites = Sites::new().unwrap();
        let site = Site::new(0x1002, [1; 8]);
        assert_eq!(trapped(&mut sites, site, 1), [Next::Ask]);
        sites.settle(site, false);
        assert!(trapped(&mut sites, site, 1000).iter().all(|&n| n == Next::Nothing));
    }

    #[test]
    fn other_bytes_are_another_site() {
        let mut sites = Sites::new().unwrap();
        let (a, b) = (Site::new(0x10, [1; 8]), Site::new(0x10, [2; 8]));
        trapped(&mut sites, a, 1);
        sites.settle(a, false);
        assert_eq!(trapped(&mut sites, b, 1), [Next::Ask]);
    }

    #[test]
    fn there_is_a_place_for_every_site() {
        let mut sites = Sites::new().unwrap();
        for n in 0..100_000u64 {
            let site = Site::new(n, n.wrapping_mul(0x1234_5678_9abc_def1).to_le_bytes());
            assert_eq!(trapped(&mut sites, site, 1), [Next::Ask]);
        }
    }
}
