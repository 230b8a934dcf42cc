//! Two domains that use each other's event channels and grants, and try more than they were given. Both run this
//! program: the granter offers, the mapper takes.
//!
//! On the command line: `granter` or `mapper`; `other=` the other's domid; and `granter-dies` or `mapper-dies` where
//! that is the experiment; `counted` to do nothing but what is counted. There is no store to meet in: the granter's first grant, whose number both know, is a page
//! in which each says how far it has come.
#![no_std]
#![no_main]
#![expect(clippy::arithmetic_side_effects, reason = "a mistake here is a failed experiment")]

mod channels;
mod copies;
mod counted;
mod deaths;
mod mappings;
mod meeting;
mod races;
mod strangers;

use meeting::Me;
use ptk::start::says;

/// `-EPERM`
pub const EPERM: i64 = -1;
/// `-ESRCH`
pub const ESRCH: i64 = -3;
/// `-EINVAL`
pub const EINVAL: i64 = -22;

fn main() {
    let me = Me::new();
    if says("granter-dies") {
        return deaths::of_granter(&me);
    }
    if says("mapper-dies") {
        return deaths::of_mapper(&me);
    }
    if says("counted") {
        counted::run(&me);
        return me.part();
    }
    channels::run(&me);
    mappings::run(&me);
    strangers::run(&me);
    copies::run(&me);
    races::run(&me);
    me.part();
}

ptk::guest!(main);
