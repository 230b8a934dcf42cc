//! Images from where they lie to the tree: what is chosen, what is checked, and what is said of those that are damaged.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests")]

mod support;

use serde_json::{Value, json};
use support::*;
use x_image::{Content, Found, Image};

const MOST: u64 = 1 << 30;

fn fault(layout: &Layout, tag: Option<&str>) -> String {
    let found = Image::of_layout(layout.place(), tag).and_then(|image| image.files(MOST).map(drop));
    text(&found.expect_err("it must be refused"))
}

fn content(image: &Image, path: &str) -> String {
    let tree = image.files(MOST).expect("good layers");
    match tree.find(path) {
        Some(Found::Other(inode)) => match &inode.content {
            Content::File(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => format!("{other:?}"),
        },
        other => format!("{other:?}"),
    }
}

#[test]
fn every_compression_is_read() {
    let mut layout = Layout::new();
    let (a, b, c) = (tar(&[file("a", "1")]), tar(&[file("b", "2")]), tar(&[file("c", "3")]));
    let zipped = zstd::encode_all(&c[..], 0).unwrap();
    let layers = [(TAR, a.clone(), a), (&format!("{TAR}+gzip"), gzip(&b), b), (&format!("{TAR}+zstd"), zipped, c)];
    let manifest = layout.manifest("amd64", &json!({ "Entrypoint": ["/e"], "Cmd": ["x"], "User": "me" }), &layers);
    layout.list(manifest, "latest");
    let image = Image::of_layout(layout.place(), None).expect("a good image");
    image.check().expect("good layers");
    assert_eq!(image.settings.argv(), ["/e", "x"]);
    assert_eq!(image.settings.user.as_deref(), Some("me"));
    assert_eq!((content(&image, "a"), content(&image, "b"), content(&image, "c")), ("1".into(), "2".into(), "3".into()));
}

#[test]
fn tags_choose() {
    let mut layout = Layout::new();
    layout.image("one", &[vec![file("a", "1")]]);
    assert_eq!(content(&Image::of_layout(layout.place(), None).unwrap(), "a"), "1");
    layout.image("example.org/me/a:two", &[vec![file("a", "2")]]);
    assert!(fault(&layout, None).contains("there are several images: name one behind a colon (example.org/me/a:two, one)"));
    assert!(fault(&layout, Some("three")).contains("there is no image 'three', only example.org/me/a:two, one"));
    assert_eq!(content(&Image::of_layout(layout.place(), Some("two")).unwrap(), "a"), "2");
    layout.image("latest", &[vec![file("a", "3")]]);
    assert_eq!(content(&Image::of_layout(layout.place(), None).unwrap(), "a"), "3");
}

#[test]
fn a_platform_is_chosen() {
    let mut layout = Layout::new();
    let layer = |text| vec![(TAR, tar(&[file("a", text)]), tar(&[file("a", text)]))];
    let on = |arch: &str, variant: &str, mut manifest: Value| {
        manifest["platform"] = json!({ "os": "linux", "architecture": arch });
        if !variant.is_empty() {
            manifest["platform"]["variant"] = json!(variant);
        }
        manifest
    };
    let arm = on("arm64", "v8", layout.manifest("arm64", &Value::Null, &layer("arm")));
    let newer = on("amd64", "v3", layout.manifest("amd64", &Value::Null, &layer("newer")));
    let any = on("amd64", "", layout.manifest("amd64", &Value::Null, &layer("any")));
    let mut attestation = on("unknown", "", layout.blob(MANIFEST, b"{}"));
    attestation["platform"]["os"] = json!("unknown");
    let index = |layout: &Layout, list: &[&Value]| {
        layout.blob(INDEX, json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": list }).to_string().as_bytes())
    };
    // Indexes in indexes.
    let inner = index(&layout, &[&arm, &newer, &any, &attestation]);
    let outer = index(&layout, &[&inner]);
    layout.list(outer, "latest");
    assert_eq!(content(&Image::of_layout(layout.place(), Some("latest")).unwrap(), "a"), "any");
    layout.manifests.clear();
    let only_arm = index(&layout, &[&arm, &attestation]);
    layout.list(only_arm, "latest");
    assert!(fault(&layout, None).contains("there is no image for linux/amd64 here, only linux/arm64, unknown/unknown"));
    // Without a platform in the index, the configuration has it.
    layout.manifests.clear();
    let bare = layout.manifest("arm64", &Value::Null, &layer("arm"));
    layout.list(bare, "");
    assert!(fault(&layout, None).contains("the image is for linux/arm64, and containers run on linux/amd64"));
    let good = layout.manifest("amd64", &Value::Null, &layer("good"));
    layout.list(good, "");
    assert_eq!(content(&Image::of_layout(layout.place(), None).unwrap(), "a"), "good");
    // An index that leads to ever more of them.
    layout.manifests.clear();
    let mut deep = index(&layout, &[&any]);
    for _ in 0..10 {
        deep = index(&layout, &[&deep]);
    }
    layout.list(deep, "");
    assert!(fault(&layout, None).contains("indexes lie in indexes, more than 8 deep"));
    layout.manifests.clear();
    let signature = layout.blob("application/vnd.example.signature", b"x");
    layout.list(signature, "");
    assert!(fault(&layout, None).contains("only something of type 'application/vnd.example.signature'"));
}

#[test]
fn damage_is_named() {
    let layer = tar(&[file("a", &"content".repeat(1000))]);
    let with = |kind: &str, bytes: Vec<u8>, inside: Vec<u8>| {
        let mut layout = Layout::new();
        let manifest = layout.manifest("amd64", &Value::Null, &[(kind, bytes, inside)]);
        layout.list(manifest, "latest");
        layout
    };
    let gz = format!("{TAR}+gzip");
    let layout = with(&gz, gzip(&layer), layer.clone());
    let blob = layout.blob_file(&digest(&gzip(&layer)));
    let good = std::fs::read(&blob).unwrap();
    // Another byte, fewer bytes, none.
    let mut other = good.clone();
    other[20] ^= 1;
    std::fs::write(&blob, &other).unwrap();
    assert!(fault(&layout, None).contains("does not match its digest"), "{}", fault(&layout, None));
    std::fs::write(&blob, &good[..good.len() - 5]).unwrap();
    assert!(fault(&layout, None).contains("it is cut off or damaged"));
    std::fs::remove_file(&blob).unwrap();
    assert!(fault(&layout, None).contains("is missing in the image"));
    let image = Image::of_layout(layout.place(), None).expect("its documents are there");
    assert!(text(&image.check().expect_err("no layer")).contains("is missing in the image"));
    // Blobs that are what their digests say, and are not what they should be.
    let cut = &gzip(&layer)[..60];
    assert!(fault(&with(&gz, cut.to_vec(), layer.clone()), None).contains("layer 1 (sha256:"));
    assert!(fault(&with(&gz, cut.to_vec(), layer.clone()), None).contains("it is cut off or damaged"));
    assert!(
        fault(&with(TAR, layer[..700].to_vec(), layer[..700].to_vec()), None).contains("it is cut off or damaged, after 'its beginning'")
    );
    assert!(fault(&with(TAR, layer.clone(), b"other".to_vec()), None).contains("which the image's configuration has"));
    assert!(fault(&with(&gz, b"no gzip".to_vec(), layer.clone()), None).contains("cut off or damaged"));
    assert!(fault(&with(&format!("{TAR}+zstd"), b"no zstd".to_vec(), layer.clone()), None).contains("cut off or damaged"));
    assert!(
        fault(&with("application/x-lzma", layer.clone(), layer.clone()), None).contains("the media type 'application/x-lzma' is not known")
    );
    let big = with(TAR, layer.clone(), layer);
    let found = Image::of_layout(big.place(), None).and_then(|i| i.files(2 << 10).map(drop));
    assert!(text(&found.expect_err("too large")).contains("the image takes more than"));
}

#[test]
fn documents_are_checked() {
    let mut layout = Layout::new();
    layout.image("latest", &[vec![file("a", "1")]]);
    let manifest = layout.blob_file(layout.manifests[0]["digest"].as_str().unwrap());
    let good = std::fs::read(&manifest).unwrap();
    std::fs::write(&manifest, String::from_utf8(good.clone()).unwrap().replace("\"size\":2", "\"size\":3")).unwrap();
    assert!(fault(&layout, None).contains("does not match its digest"));
    std::fs::write(&manifest, [&good[..], b" "].concat()).unwrap();
    assert!(fault(&layout, None).contains("bytes instead of"));
    std::fs::write(&manifest, &good).unwrap();
    let said = |file: &str, text: &str| {
        let place = layout.place().join(file);
        let before = std::fs::read(&place).unwrap();
        std::fs::write(&place, text).unwrap();
        let found = fault(&layout, None);
        std::fs::write(&place, before).unwrap();
        found
    };
    assert!(said("index.json", "{").contains("index.json is not understood"));
    assert!(said("index.json", r#"{"schemaVersion":2,"manifests":[]}"#).contains("there is no image for linux/amd64 here, only none"));
    assert!(said("oci-layout", r#"{"imageLayoutVersion":"2.0.0"}"#).contains("the OCI layout is version 2.0.0"));
    let bad =
        r#"{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha512:X","size":1}]}"#;
    assert!(said("index.json", bad).contains("index.json is not understood"));
    let other = bad.replace("sha512:X", &format!("sha512:{}", "0".repeat(128)));
    assert!(said("index.json", &other).contains("digests by sha512 are not known"));
    let climbing = bad.replace("sha512:X", "sha256:../../../etc/passwd");
    assert!(said("index.json", &climbing).contains("index.json is not understood"));
    std::fs::remove_file(layout.place().join("oci-layout")).unwrap();
    assert!(fault(&layout, None).contains("is no OCI layout"));
    let file = layout.place().join("index.json");
    std::fs::write(&file, "no archive".repeat(200)).unwrap();
    assert!(text(&Image::of_layout(&file, None).expect_err("no archive")).contains("is neither a folder nor a tar archive"));
    let nothing = Image::of_layout(&layout.place().join("nothing"), None).expect_err("nothing there");
    assert!(text(&nothing).starts_with("cannot read "), "{}", text(&nothing));
}

/// An archive with these files.
fn archive(files: &[(&str, Vec<u8>)], links: &[Item]) -> Scratch {
    let items: Vec<_> = files.iter().map(|(path, bytes)| Item { content: bytes.clone(), ..file(path, "") }).collect();
    let scratch = Scratch::new();
    std::fs::write(scratch.0.join("image.tar"), tar(&[items.as_slice(), links].concat())).unwrap();
    scratch
}

#[test]
fn docker_archives_are_read() {
    let (one, two) = (tar(&[file("a", "1"), file("b", "1")]), tar(&[whiteout(".wh.b")]));
    let config = |arch: &str, ids: &[&[u8]]| {
        let ids: Vec<_> = ids.iter().map(|i| digest(i)).collect();
        json!({ "architecture": arch, "os": "linux", "config": { "Cmd": ["sh"] }, "rootfs": { "type": "layers", "diff_ids": ids } })
            .to_string()
            .into_bytes()
    };
    let manifest =
        json!([{ "Config": "c.json", "RepoTags": ["a:1"], "Layers": ["x/layer.tar", "y/layer.tar", "z/layer.tar"] }]).to_string();
    let manifest = ("manifest.json", manifest.into_bytes());
    let good = config("amd64", &[&one, &two, &one]);
    let link = symlink("z/layer.tar", "../x/layer.tar");
    let files = [manifest.clone(), ("c.json", good.clone()), ("x/layer.tar", one.clone()), ("y/layer.tar", gzip(&two))];
    let open = |scratch: &Scratch, tag| Image::of_docker_archive(&scratch.0.join("image.tar"), tag);
    let scratch = archive(&files, std::slice::from_ref(&link));
    let image = open(&scratch, Some("1")).expect("a good archive");
    image.check().expect("good layers");
    assert_eq!((image.settings.argv().join(" "), content(&image, "b")), ("sh".into(), "1".into()));
    assert!(text(&open(&scratch, Some("2")).expect_err("no tag")).contains("there is no image '2', only a:1"));
    let said = |files: &[(&str, Vec<u8>)], links: &[Item]| {
        let scratch = archive(files, links);
        let found = open(&scratch, None).and_then(|image| image.files(MOST).map(drop));
        text(&found.expect_err("it must be refused"))
    };
    assert!(said(&files, &[]).contains("z/layer.tar is missing in the image"));
    assert!(said(&files[1..], &[]).contains("is no docker archive"));
    let wrong = config("arm64", &[&one, &two, &one]);
    assert!(said(&[manifest.clone(), ("c.json", wrong)], &[]).contains("the image is for linux/arm64"));
    let fewer = config("amd64", &[&one]);
    assert!(said(&[manifest.clone(), ("c.json", fewer)], &[]).contains("has 3 layers, and the image's configuration 1"));
    let other = config("amd64", &[&one, &one, &one]);
    let damaged = [manifest, ("c.json", other), files[2].clone(), files[3].clone()];
    assert!(said(&damaged, &[link]).contains("layer 2 (y/layer.tar): unpacked it is sha256:"));
    let name = format!("{}.json", "0".repeat(64));
    let manifest = json!([{ "Config": name, "Layers": [] }]).to_string().into_bytes();
    assert!(said(&[("manifest.json", manifest), (&name, config("amd64", &[]))], &[]).contains("does not match its digest"));
}

#[test]
fn newer_docker_archives_are_layouts_too() {
    let mut layout = Layout::new();
    let inside = tar(&[file("a", "1")]);
    let layer = gzip(&inside);
    let manifest = layout.manifest("amd64", &json!({ "Cmd": ["sh"] }), &[(&format!("{TAR}+gzip"), layer.clone(), inside)]);
    layout.list(manifest.clone(), "1");
    let manifest: Value = serde_json::from_slice(&std::fs::read(layout.blob_file(manifest["digest"].as_str().unwrap())).unwrap()).unwrap();
    let blob = |digest: &str| digest.replace("sha256:", "blobs/sha256/");
    let config = blob(manifest["config"]["digest"].as_str().unwrap());
    let layer = blob(&digest(&layer));
    let saved = json!([{ "Config": config, "RepoTags": ["a:1"], "Layers": [layer] }]);
    std::fs::write(layout.place().join("manifest.json"), saved.to_string()).unwrap();
    let read = |name: &str| (name.to_string(), std::fs::read(layout.place().join(name)).unwrap());
    let mut files: Vec<_> = ["oci-layout", "index.json", "manifest.json", &config, &layer].map(read).to_vec();
    let blobs = std::fs::read_dir(layout.place().join("blobs/sha256")).unwrap();
    files.extend(blobs.map(|e| read(&format!("blobs/sha256/{}", e.unwrap().file_name().to_str().unwrap()))));
    let list: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    let scratch = archive(&list, &[]);
    let place = scratch.0.join("image.tar");
    let (saved, of_layout) = (Image::of_docker_archive(&place, Some("1")).unwrap(), Image::of_layout(&place, Some("1")).unwrap());
    assert_eq!((content(&saved, "a"), content(&of_layout, "a")), ("1".into(), "1".into()));
    assert_eq!(saved.settings, of_layout.settings);
}
