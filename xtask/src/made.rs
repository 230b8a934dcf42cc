//! Images made of Debian's packages, for tests: by umoci and skopeo, so that it is others who say what an image is.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{rootfs, setup, sh};

/// What a step of making an image adds.
enum Step {
    /// A folder of tests/images, and where to.
    Insert(&'static str, &'static str),
    /// The same, and nothing that was there.
    Opaque(&'static str, &'static str),
    /// This is gone.
    Whiteout(&'static str),
    /// A folder of tests/images as a layer by itself, by tar with these options: what is beyond umoci.
    Tar(&'static str, &'static [&'static str]),
}

/// An image: packages, further layers, and what is to be run.
struct Recipe {
    name: &'static str,
    /// A set of packages (rootfs.rs).
    packages: &'static str,
    steps: &'static [Step],
    /// Options of `umoci config`.
    config: &'static [&'static str],
}

const RECIPES: &[Recipe] = &[
    Recipe {
        name: "layers",
        packages: "image",
        steps: &[
            Step::Insert("layers/app", "/srv/app"),
            Step::Whiteout("/etc/issue"),
            Step::Whiteout("/srv/app/drop"),
            Step::Opaque("layers/conf", "/srv/app/conf"),
            Step::Tar("layers/over", &["--owner=7", "--group=8", "--mode=2755", "--pax-option=SCHILY.xattr.security.x-image:=kept"]),
        ],
        config: &[
            "--config.user=daemon",
            "--config.workingdir=/srv/app",
            "--config.env=GREETING=from the image",
            "--config.env=PATH=/usr/sbin:/usr/bin:/sbin:/bin:/srv",
            "--config.entrypoint=/srv/app/run.sh",
            "--config.cmd=first",
            "--config.cmd=second",
            "--config.stopsignal=SIGQUIT",
        ],
    },
    Recipe {
        name: "redis",
        packages: "redis",
        steps: &[Step::Insert("redis", "/usr/local/bin")],
        config: &[
            "--config.user=daemon",
            "--config.workingdir=/tmp",
            "--config.entrypoint=serve",
            "--config.cmd=redis-server",
            "--config.cmd=--save",
            "--config.cmd=",
        ],
    },
    Recipe {
        name: "nginx",
        packages: "nginx",
        steps: &[Step::Insert("nginx", "/srv")],
        config: &["--config.entrypoint=/srv/serve", "--config.cmd=nginx", "--config.cmd=-c", "--config.cmd=/srv/nginx.conf"],
    },
    Recipe {
        name: "python",
        packages: "python",
        steps: &[Step::Insert("python", "/srv")],
        config: &["--config.user=daemon", "--config.entrypoint=/srv/serve.py"],
    },
];

/// An image in two forms.
pub struct Made {
    /// An OCI layout.
    pub layout: PathBuf,
    /// What `docker save` would write.
    pub archive: PathBuf,
}

/// All files below a folder, with their contents and modes, into `hash`.
fn hash_files(folder: &Path, hash: &mut DefaultHasher) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let mut paths = std::fs::read_dir(folder)?.map(|e| Ok(e?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        let meta = path.symlink_metadata()?;
        (path.file_name(), meta.mode()).hash(hash);
        if meta.is_dir() {
            hash_files(&path, hash)?;
        } else {
            std::fs::read(&path)?.hash(hash);
        }
    }
    Ok(())
}

/// Makes the image `name` if the cache does not have it.
pub fn image(name: &str) -> Result<Made> {
    let Some(recipe) = RECIPES.iter().find(|r| r.name == name) else {
        let names: Vec<_> = RECIPES.iter().map(|r| r.name).collect();
        bail!("there is no image debian:{name}, only {} (a layout in a folder called debian is ./debian:TAG)", names.join(", "));
    };
    let base = rootfs::debian(recipe.packages)?;
    let files = sh::root().join("tests/images");
    let mut hash = DefaultHasher::new();
    (&base, include_str!("made.rs")).hash(&mut hash);
    hash_files(&files, &mut hash)?;
    let cache = sh::cache("images")?;
    let done = cache.join(format!("{name}-{:016x}", hash.finish()));
    let made = |folder: &Path| Made { layout: folder.join("layout"), archive: folder.join("archive.tar") };
    let _lock = sh::lock("images")?;
    if done.is_dir() {
        return Ok(made(&done));
    }
    setup::ensure(setup::IMAGES)?;
    eprintln!("xtask: making the image debian:{name}");
    let part = cache.join("part");
    sh::empty(&part)?;
    make(recipe, &base, &files, &made(&part)).with_context(|| format!("the image debian:{name}"))?;
    // Those of other packages are of no more use.
    for old in std::fs::read_dir(&cache)?.filter_map(|e| Some(e.ok()?.path())) {
        let is_old = old.file_name().and_then(|n| n.to_str()).and_then(|n| n.rsplit_once('-')).is_some_and(|(n, _)| n == name);
        if is_old {
            std::fs::remove_dir_all(&old)?;
        }
    }
    std::fs::rename(&part, &done)?;
    Ok(made(&done))
}

fn make(recipe: &Recipe, base: &Path, files: &Path, made: &Made) -> Result<()> {
    let own = sh::output(Command::new("id").arg("-u"))?.trim() == "0";
    let image = format!("{}:latest", made.layout.display());
    let umoci = |args: &[&str]| sh::run(Command::new("umoci").args(["--log", "error"]).args(args));
    let insert = |more: &[&str], from: &Path, to: &str| {
        // An ordinary user's files are root's in the image.
        let rootless: &[&str] = if own { &[] } else { &["--rootless"] };
        let from = from.to_string_lossy();
        umoci(&[&["insert", "--image", &image], rootless, more, &[&from, to]].concat())
    };
    umoci(&["init", "--layout", &made.layout.to_string_lossy()])?;
    umoci(&["new", "--image", &image])?;
    insert(&[], base, "/")?;
    for step in recipe.steps {
        match step {
            Step::Insert(from, to) => insert(&[], &files.join(from), to)?,
            Step::Opaque(from, to) => insert(&["--opaque"], &files.join(from), to)?,
            Step::Whiteout(path) => umoci(&["insert", "--image", &image, "--whiteout", path])?,
            Step::Tar(from, options) => {
                let archive = made.layout.with_extension("tar");
                let folder = made.layout.with_extension("d");
                // Links are made here: a tree of sources may be without.
                sh::empty(&folder)?;
                sh::run(Command::new("cp").args(["-r", "--"]).arg(files.join(from).join(".")).arg(&folder))?;
                std::fs::hard_link(folder.join("srv/app/top"), folder.join("srv/app/same"))?;
                std::os::unix::fs::symlink("/srv/app/top", folder.join("srv/app/link"))?;
                let mut tar = Command::new("tar");
                tar.args(["--create", "--format=pax", "--no-recursion", "--sort=name"]).args(*options);
                tar.arg("--file").arg(&archive).arg("--directory").arg(&folder);
                sh::run(tar.args(["srv/app/link", "srv/app/top", "srv/app/same"]))?;
                umoci(&["raw", "add-layer", "--image", &image, &archive.to_string_lossy()])?;
                std::fs::remove_file(&archive)?;
                std::fs::remove_dir_all(&folder)?;
            }
        }
    }
    umoci(&[&["config", "--image", &image], recipe.config].concat())?;
    // What steps before the last have left.
    umoci(&["gc", "--layout", &made.layout.to_string_lossy()])?;
    let to = format!("docker-archive:{}:x-containers/{}:latest", made.archive.display(), recipe.name);
    sh::run(Command::new("skopeo").args(["copy", "--insecure-policy", "--quiet", &format!("oci:{image}"), &to]))
}
