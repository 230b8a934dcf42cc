//! What layers add up to, and what of hostile ones is refused.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests")]

mod support;

use std::collections::BTreeMap;

use proptest::prelude::*;
use support::*;
use tar::EntryType;
use x_image::{Budget, Content, Found, LayerError, Tree, apply};

fn merged(layers: &[Vec<Item>]) -> Result<Tree, LayerError> {
    let mut tree = Tree::default();
    for layer in layers {
        tree.next_layer();
        apply(&mut tree, &tar(layer)[..], &mut Budget::new(1 << 30))?;
    }
    Ok(tree)
}

/// All of a tree, a line each.
fn listed(tree: &Tree) -> Vec<String> {
    let mut lines = Vec::new();
    tree.walk(&mut |path, found| {
        lines.push(match found {
            Found::Folder(meta) => format!("{path}/ {:o} {}:{}", meta.mode, meta.uid, meta.gid),
            Found::Other(inode) => match &inode.content {
                Content::File(bytes) => format!("{path} = {}", String::from_utf8_lossy(bytes)),
                Content::Symlink(to) => format!("{path} -> {}", String::from_utf8_lossy(to)),
                other => format!("{path} {other:?}"),
            },
        });
        Ok::<_, ()>(())
    })
    .unwrap();
    lines
}

fn names(layers: &[Vec<Item>]) -> String {
    let lines = listed(&merged(layers).expect("good layers"));
    lines.iter().skip(1).map(|l| l.split(' ').next().unwrap()).collect::<Vec<_>>().join(" ")
}

fn refused(layers: &[Vec<Item>]) -> String {
    text(&merged(layers).expect_err("it must be refused"))
}

#[test]
fn whiteouts_take_what_is_below() {
    let base = vec![dir("d"), file("d/a", "1"), file("d/b", "1"), dir("d/s"), file("d/s/c", "1"), file("e", "1")];
    let with = |top: Vec<Item>| names(&[base.clone(), top]);
    assert_eq!(with(vec![whiteout("d/.wh.a"), whiteout(".wh.e")]), "d/ d/b d/s/ d/s/c");
    assert_eq!(with(vec![whiteout("d/.wh.s")]), "d/ d/a d/b e");
    assert_eq!(with(vec![whiteout(".wh.nothing"), whiteout("no/.wh.where")]), "d/ d/a d/b d/s/ d/s/c e");
    // An opaque folder has what its own layer puts there, before and after it, and nothing else.
    for opaque in [0, 1, 2, 3] {
        let mut top = vec![dir("d"), file("d/s/n", "2"), file("d/m", "2")];
        top.insert(opaque, whiteout("d/.wh..wh..opq"));
        assert_eq!(with(top), "d/ d/m d/s/ d/s/n e", "{opaque}");
    }
    assert_eq!(with(vec![whiteout(".wh..wh..opq"), file("x", "")]), "x");
    assert_eq!(with(vec![dir(".wh..wh.plnk"), file(".wh..wh.aufs", "")]), "d/ d/a d/b d/s/ d/s/c e");
    // Three layers: what was taken away comes back.
    assert_eq!(names(&[base.clone(), vec![whiteout(".wh.d")], vec![file("d/z", "3")]]), "d/ d/z e");
    assert_eq!(names(&[base, vec![whiteout("d/.wh..wh..opq")], vec![file("d/a", "3")]]), "d/ d/a e");
}

#[test]
fn whiteouts_spare_their_own_layer() {
    let base = vec![dir("d"), file("d/a", "1"), file("e", "1")];
    for top in [
        vec![file("e", "2"), whiteout(".wh.e")],
        vec![whiteout(".wh.e"), file("e", "2")],
        vec![file("d/n", "2"), whiteout(".wh.d")],
        vec![whiteout(".wh.d"), file("d/n", "2")],
        vec![whiteout(".wh.d"), dir("d")],
    ] {
        assert!(refused(&[base.clone(), top.clone()]).contains("it removes what is of the same layer"), "{top:?}");
    }
    assert!(refused(&[vec![file("a", "1"), whiteout(".wh.a")]]).contains("'.wh.a': it removes what is of the same layer"));
    assert!(refused(&[base.clone(), vec![whiteout(".wh.")]]).contains("a whiteout that names nothing"));
    assert!(refused(&[base, vec![file(".wh.d/x", "")]]).contains("nothing can be below them"));
}

#[test]
fn everything_is_kept() {
    let cap = b"\x01\0\0\x02\0\x0a\n\0".to_vec();
    let long = format!("{}/{}", "l".repeat(120), "f".repeat(200));
    let layer = vec![
        Item { mode: 0o1777, uid: 7, gid: 8, ..dir("./t/") },
        Item { mode: 0o4755, uid: 70_000, gid: 2_000_000, xattrs: vec![("security.capability".into(), cap.clone())], ..file("t/s", "x") },
        hard_link("t/h", "t/s"),
        hard_link("t/h2", "./t/h"),
        symlink("t/l", "../../../outside"),
        item("t/fifo", EntryType::Fifo),
        item("t/con", EntryType::Char),
        file(&long, "long"),
        item("x", EntryType::XGlobalHeader),
    ];
    let tree = merged(&[layer]).expect("a good layer");
    let found = |path: &str| match tree.find(path) {
        Some(Found::Other(inode)) => inode.clone(),
        other => panic!("{path}: {other:?}"),
    };
    let (s, h) = (found("t/s"), found("t/h2"));
    assert!(std::rc::Rc::ptr_eq(&s, &h));
    assert_eq!((s.meta.mode, s.meta.uid, s.meta.gid, s.meta.mtime), (0o4755, 70_000, 2_000_000, 1_700_000_000));
    assert_eq!(s.meta.xattrs, [("security.capability".to_string(), cap)]);
    assert_eq!(found("t/l").content, Content::Symlink(b"../../../outside".to_vec()));
    assert_eq!(found("t/con").content, Content::Device { block: false, major: 5, minor: 1 });
    assert_eq!(found(&long).content, Content::File(b"long".to_vec()));
    assert!(matches!(tree.find("t"), Some(Found::Folder(meta)) if (meta.mode, meta.uid, meta.gid) == (0o1777, 7, 8)));
}

#[test]
fn later_entries_replace_earlier_ones() {
    let base = vec![dir("d"), file("d/a", "1"), hard_link("d/b", "d/a"), symlink("l", "d"), file("f", "1")];
    let top = vec![file("d/a", "2"), Item { mode: 0o700, ..dir("d") }, dir("f"), file("f/x", "2"), dir("l")];
    let lines = listed(&merged(&[base.clone(), top]).unwrap());
    assert_eq!(lines, ["/ 755 0:0", "d/ 700 0:0", "d/a = 2", "d/b = 1", "f/ 755 0:0", "f/x = 2", "l/ 755 0:0"]);
    assert_eq!(names(&[base.clone(), vec![file("d", "2")]]), "d f l");
    assert!(refused(&[base, vec![file("f/x", "2")]]).contains("the path leads through 'f', which is no folder"));
}

#[test]
fn links_lead_where_they_do_in_the_container() {
    let base = vec![dir("usr"), dir("usr/bin"), symlink("bin", "usr/bin"), symlink("abs", "/usr/bin"), symlink("usr/up", "../usr/./bin")];
    for path in ["bin/x", "abs/x", "usr/up/x"] {
        assert!(names(&[base.clone(), vec![file(path, "2")]]).contains("usr/bin/x"), "{path}");
    }
    assert!(!names(&[base.clone(), vec![file("usr/bin/x", "")], vec![whiteout("bin/.wh.x")]]).contains("usr/bin/x"));
    assert!(!names(&[base.clone(), vec![file("usr/bin/x", "")], vec![whiteout("abs/.wh..wh..opq")]]).contains("usr/bin/x"));
    assert!(names(&[base, vec![file("usr/bin/x", "")], vec![hard_link("y", "bin/x")]]).ends_with('y'));
}

#[test]
fn nothing_climbs_out() {
    let evil = |item: Item| refused(&[vec![dir("usr")], vec![item]]);
    assert!(evil(file("../x", "")).contains("'../x': the path climbs out of the image by '..'"));
    assert!(evil(file("usr/../../x", "")).contains("climbs out"));
    assert!(evil(file("/etc/passwd", "")).contains("'/etc/passwd': the path is absolute"));
    assert!(evil(whiteout("../.wh.x")).contains("climbs out"));
    assert!(evil(whiteout("/.wh.x")).contains("absolute"));
    assert!(evil(whiteout(".wh...")).contains("a whiteout that names nothing"));
    assert!(evil(hard_link("x", "../x")).contains("'x': hard link to '../x': the path climbs out"));
    assert!(evil(hard_link("x", "/etc/passwd")).contains("hard link to '/etc/passwd': the path is absolute"));
    assert!(evil(hard_link("x", "nothing")).contains("hard link to 'nothing': it is not there"));
    assert!(evil(hard_link("x", "usr")).contains("it is a folder"));
    assert!(evil(hard_link("x", ".")).contains("it is a folder"));
    assert!(evil(Item { kind: EntryType::Regular, ..dir(".") }).contains("the root of the file system can only be a folder"));
    let long = format!("{}../../x", "a/".repeat(80));
    assert!(evil(file(&long, "")).contains("climbs out"));
    // By way of what an earlier layer, or the same one, has put there.
    for to in ["..", "../..", "usr/../..", "../../../../etc"] {
        let link = symlink("out", to);
        for item in [file("out/x", ""), dir("out/x"), whiteout("out/.wh.x"), whiteout("out/.wh..wh..opq"), hard_link("y", "out/x")] {
            let path = String::from_utf8(item.path.clone()).unwrap();
            assert!(refused(&[vec![dir("usr"), link.clone()], vec![item.clone()]]).contains("leads out of the image"), "{to} {path}");
            assert!(refused(&[vec![dir("usr"), link.clone(), item]]).contains("leads out of the image"), "{to} {path}");
        }
    }
    assert!(refused(&[vec![symlink("l", "/somewhere")], vec![file("l/x", "")]]).contains("the symbolic link 'l' to nothing"));
    assert!(refused(&[vec![symlink("a", "b"), symlink("b", "a")], vec![file("a/x", "")]]).contains("too many symbolic links"));
    let growing = vec![symlink("a", "a/a/a/a/a/a/a/a"), file("a/x", "")];
    assert!(refused(&[growing]).contains("too many symbolic links"));
}

#[test]
fn odd_entries_are_named() {
    let odd = |item: Item| refused(&[vec![item]]);
    assert!(odd(item("x", EntryType::new(b'Q'))).contains("'x': a kind of file that is not known: type 'Q'"));
    assert!(odd(symlink("x", "")).contains("a symbolic link to nothing"));
    assert!(odd(Item { path: vec![b'a', 0xff], ..file("", "") }).contains("not UTF-8"));
    assert!(odd(Item { path: Vec::new(), ..file("", "") }).contains("the path is empty"));
    assert!(odd(item("x", EntryType::GNUSparse)).contains("a sparse file"));
    assert!(odd(Item { uid: u64::from(u32::MAX), ..file("x", "") }).contains("the owner is not a number that fits"));
    assert!(odd(Item { content: b"no record".to_vec(), ..item("x", EntryType::XHeader) }).contains("a malformed extended header"));
    let sized = [item("h", EntryType::XHeader), file("x", "1")];
    let sized = [Item { content: record("size", b"5"), ..sized[0].clone() }, sized[1].clone()];
    assert!(refused(&[sized.to_vec()]).contains("4 GiB or more"));
    assert!(odd(symlink("a\x1b[2J\nb", "")).starts_with(r"'a\u{1b}[2J\nb': a symbolic link"));
    let deep = "d/".repeat(2000);
    assert!(odd(dir(&deep)).contains("too long or too deep"));
}

#[test]
fn more_than_fits_is_refused() {
    let mut tree = Tree::default();
    let bytes = tar(&[file("a", &"x".repeat(5000))]);
    let found = apply(&mut tree, &bytes[..], &mut Budget::new(4096)).expect_err("too much");
    assert!(matches!(found, LayerError::TooMuch(_)));
    // A size that is not there costs nothing.
    let mut header = tar::Header::new_gnu();
    header.set_path("a").unwrap();
    header.set_size(3 << 30);
    header.set_cksum();
    let found = apply(&mut Tree::default(), &header.as_bytes()[..], &mut Budget::new(u64::MAX)).expect_err("cut off");
    assert!(matches!(found, LayerError::Broken { .. }));
}

/// Paths of a small world, so that they meet.
fn path() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof![Just("a"), Just("b"), Just("c"), Just("."), Just("..")], 1..4).prop_map(|names| names.join("/"))
}

fn some_item() -> impl Strategy<Value = Item> {
    prop_oneof![
        4 => path().prop_map(|p| file(&p, &p)),
        3 => path().prop_map(|p| dir(&p)),
        3 => (path(), path(), any::<bool>()).prop_map(|(p, to, root)| symlink(&p, &if root { format!("/{to}") } else { to })),
        2 => (path(), path()).prop_map(|(p, to)| hard_link(&p, &to)),
        2 => path().prop_map(|p| whiteout(&p.rsplit_once('/').map_or(format!(".wh.{p}"), |(d, n)| format!("{d}/.wh.{n}")))),
        1 => path().prop_map(|p| whiteout(&format!("{p}/.wh..wh..opq"))),
    ]
}

/// The slow and obvious way for layers of files and folders without links: what a path is, layer by layer.
fn model(layers: &[Vec<Item>]) -> BTreeMap<String, String> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for layer in layers {
        let gone: Vec<_> = layer.iter().filter_map(|i| std::str::from_utf8(&i.path).unwrap().strip_prefix(".wh.")).collect();
        found.retain(|path, _| !gone.contains(&path.as_str()));
        let own = layer.iter().filter(|i| !i.path.starts_with(b".wh."));
        found.extend(own.map(|i| (String::from_utf8(i.path.clone()).unwrap(), String::from_utf8(i.content.clone()).unwrap())));
    }
    found
}

proptest! {
    #[test]
    fn any_layers_are_merged_or_refused(layers in proptest::collection::vec(proptest::collection::vec(some_item(), 0..12), 1..4)) {
        if let Ok(tree) = merged(&layers) {
            for line in listed(&tree) {
                let path = line.split(' ').next().unwrap();
                prop_assert!(!path.split('/').any(|n| n == ".." || n.starts_with(".wh.")), "{}", line);
            }
        }
    }

    #[test]
    fn plain_layers_are_as_the_model_has_them(
        layers in proptest::collection::vec(proptest::collection::btree_map("[a-e]", ("[x-z]{0,3}", any::<bool>()), 0..5), 1..5),
    ) {
        let layers: Vec<Vec<Item>> = layers.iter().map(|l| {
            l.iter().map(|(name, (text, gone))| if *gone { whiteout(&format!(".wh.{name}")) } else { file(name, text) }).collect()
        }).collect();
        let tree = merged(&layers).expect("good layers");
        let found: Vec<_> = listed(&tree).into_iter().skip(1).collect();
        let wanted: Vec<_> = model(&layers).iter().map(|(path, text)| format!("{path} = {text}")).collect();
        prop_assert_eq!(found, wanted);
    }

    #[test]
    fn damaged_archives_are_refused_or_read(at in 0..6000_usize, byte: u8, cut in 0..6000_usize) {
        let mut bytes = tar(&[dir("d"), file("d/a", "1"), symlink("l", "d"), hard_link("h", "d/a"), file(&"n".repeat(150), "2")]);
        let at = at % bytes.len();
        bytes[at] = byte;
        bytes.truncate(bytes.len().min(cut));
        let _ = apply(&mut Tree::default(), &bytes[..], &mut Budget::new(1 << 24));
    }

    #[test]
    fn random_headers_are_refused_or_read(mut header in proptest::collection::vec(any::<u8>(), 512), kind in 0..16_usize) {
        // With a checksum that is right, so that more of it is looked at.
        header[156] = b"0123456xgLKSV\0DQ"[kind];
        header[124..136].copy_from_slice(b"00000000010\0");
        let mut typed = tar::Header::new_old();
        typed.as_mut_bytes().copy_from_slice(&header);
        typed.set_cksum();
        let bytes = [&typed.as_bytes()[..], &[b'1'; 512], &[0; 1024]].concat();
        let _ = apply(&mut Tree::default(), &bytes[..], &mut Budget::new(1 << 24));
    }
}
