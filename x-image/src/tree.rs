//! The file system that layers add up to, in memory: nothing of it touches the host's.
//!
//! A name belongs to the layer that wrote it last. Whiteouts take names of earlier layers only, wherever in their layer
//! they stand; one that would take a name of its own layer is an error. Folders on the way to a file may be symbolic
//! links, as for any program in the container: the image's root is theirs, and one that leads above it is an error.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::rc::Rc;

use crate::error::Fault;
use crate::path::{PATH_MAX, Path};

/// How many symbolic links a path may lead through, as in Linux.
const LINKS_MAX: usize = 40;

/// Owner, rights, and what else every file has.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Meta {
    /// Permission bits, with set-user-ID and the like.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The owner's group.
    pub gid: u32,
    /// When it was changed, in seconds.
    pub mtime: u32,
    /// Extended attributes.
    pub xattrs: Vec<(String, Vec<u8>)>,
}

/// What is not a folder.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Content {
    /// A regular file.
    File(Vec<u8>),
    /// A symbolic link, and where it leads.
    Symlink(Vec<u8>),
    /// A device: its numbers.
    Device {
        /// A block device, not a character device.
        block: bool,
        /// Its driver.
        major: u32,
        /// Which of them.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// A file that may have several names.
#[derive(Debug)]
pub struct Inode {
    /// Owner, rights and so on.
    pub meta: Meta,
    /// What it is.
    pub content: Content,
}

#[derive(Debug, Default)]
struct Folder {
    meta: Meta,
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
enum Node {
    Folder(Folder),
    Other(Rc<Inode>),
}

#[derive(Debug)]
struct Entry {
    layer: u32,
    node: Node,
}

/// A file system.
#[derive(Debug)]
pub struct Tree {
    root: Folder,
    layer: u32,
    /// What whiteouts of this layer have removed.
    gone: HashSet<Path>,
}

/// What a walk finds.
#[derive(Clone, Copy, Debug)]
pub enum Found<'a> {
    /// A folder.
    Folder(&'a Meta),
    /// Something else, which may be found under several names.
    Other(&'a Rc<Inode>),
}

/// A folder that no layer says anything about.
fn unsaid() -> Folder {
    Folder { meta: Meta { mode: 0o755, ..Meta::default() }, entries: BTreeMap::new() }
}

impl Folder {
    /// Whether anything in it is of `layer`.
    fn has(&self, layer: u32) -> bool {
        self.entries.values().any(|e| e.is_of(layer))
    }

    /// Removes all that is not of `layer`.
    fn keep(&mut self, layer: u32) {
        self.entries.retain(|_, entry| {
            let left = match &mut entry.node {
                Node::Folder(folder) => {
                    folder.keep(layer);
                    !folder.entries.is_empty()
                }
                Node::Other(_) => false,
            };
            entry.layer == layer || left
        });
    }
}

impl Entry {
    fn is_of(&self, layer: u32) -> bool {
        self.layer == layer || matches!(&self.node, Node::Folder(folder) if folder.has(layer))
    }
}

impl Default for Tree {
    fn default() -> Self {
        Self { root: unsaid(), layer: 0, gone: HashSet::new() }
    }
}

impl Tree {
    /// What is added from now on is of another layer.
    pub fn next_layer(&mut self) {
        self.layer = self.layer.saturating_add(1);
        self.gone.clear();
    }

    /// Where `path` leads when the folders on the way that are symbolic links are followed; the last name is not.
    fn resolve(&self, path: &Path) -> Result<Path, Fault> {
        let Some((folder, name)) = path.split() else { return Ok(path.clone()) };
        let mut todo: VecDeque<String> = folder.iter().cloned().collect();
        // The folders so far, with their names; None are those that are not there yet.
        let mut done: Vec<(String, Option<&Folder>)> = Vec::new();
        // The link that is being followed, and how many of the names to come are its.
        let mut link = (String::new(), 0_usize);
        let mut budget = LINKS_MAX;
        while let Some(next) = todo.pop_front() {
            let of_link = link.1 > 0;
            link.1 = link.1.saturating_sub(1);
            if next == ".." {
                done.pop().ok_or_else(|| Fault::LinkClimbsOut(link.0.clone()))?;
                continue;
            }
            let here = done.last().map_or(Some(&self.root), |(_, folder)| *folder);
            match here.and_then(|f| f.entries.get(&next)).map(|e| &e.node) {
                None if of_link => return Err(Fault::LinkLeadsNowhere(link.0)),
                None => done.push((next, None)),
                Some(Node::Folder(folder)) => done.push((next, Some(folder))),
                Some(Node::Other(inode)) => {
                    let Content::Symlink(target) = &inode.content else { return Err(Fault::NoFolder(next)) };
                    budget = budget.checked_sub(1).ok_or(Fault::LinkLoop)?;
                    if target.starts_with(b"/") {
                        done.clear();
                    }
                    let names = str::from_utf8(target).map_err(|_| Fault::NoText)?.split('/').filter(|n| !matches!(*n, "" | "."));
                    let names: Vec<_> = names.map(String::from).collect();
                    link = (next, link.1.saturating_add(names.len()));
                    names.into_iter().rev().for_each(|n| todo.push_front(n));
                    if todo.len() > PATH_MAX {
                        return Err(Fault::TooLong);
                    }
                }
            }
        }
        Path::of(done.into_iter().map(|(name, _)| name).chain([name.clone()]).collect())
    }

    /// The folder of these names; made where it is not there.
    fn folder(&mut self, names: &[String]) -> Result<&mut Folder, Fault> {
        let mut here = &mut self.root;
        for name in names {
            let layer = self.layer;
            let entry = here.entries.entry(name.clone()).or_insert_with(|| Entry { layer, node: Node::Folder(unsaid()) });
            let Node::Folder(folder) = &mut entry.node else { return Err(Fault::NoFolder(name.clone())) };
            here = folder;
        }
        Ok(here)
    }

    /// What is at a path that has been resolved.
    fn at(&self, path: &Path) -> Option<&Entry> {
        let (folder, name) = path.split()?;
        let mut here = &self.root;
        for name in folder {
            let Node::Folder(next) = &here.entries.get(name)?.node else { return None };
            here = next;
        }
        here.entries.get(name)
    }

    /// Where something may be put that an entry has at `path`.
    fn place(&self, path: &Path) -> Result<Path, Fault> {
        let path = self.resolve(path)?;
        if !self.gone.is_empty() {
            let above = (1..=path.names().len()).filter_map(|n| path.names().get(..n));
            if above.filter_map(|names| Path::of(names.to_vec()).ok()).any(|p| self.gone.contains(&p)) {
                return Err(Fault::OwnWhiteout);
            }
        }
        Ok(path)
    }

    fn put(&mut self, path: &Path, node: Node) -> Result<(), Fault> {
        let layer = self.layer;
        let (folder, name) = path.split().ok_or(Fault::Root)?;
        self.folder(folder)?.entries.insert(name.clone(), Entry { layer, node });
        Ok(())
    }

    /// Adds a folder; one that is there keeps what is in it.
    ///
    /// # Errors
    /// Why it cannot be there.
    pub fn add_folder(&mut self, path: &Path, meta: Meta) -> Result<(), Fault> {
        let path = self.place(path)?;
        let layer = self.layer;
        let Some((folder, name)) = path.split() else {
            self.root.meta = meta;
            return Ok(());
        };
        let entries = &mut self.folder(folder)?.entries;
        if let Some(Entry { layer: of, node: Node::Folder(folder) }) = entries.get_mut(name) {
            (*of, folder.meta) = (layer, meta);
        } else {
            entries.insert(name.clone(), Entry { layer, node: Node::Folder(Folder { meta, entries: BTreeMap::new() }) });
        }
        Ok(())
    }

    /// Adds something that is not a folder, in the place of what is there.
    ///
    /// # Errors
    /// Why it cannot be there.
    pub fn add(&mut self, path: &Path, meta: Meta, content: Content) -> Result<(), Fault> {
        let bad = |target: &Vec<u8>| target.is_empty() || target.len() > PATH_MAX || target.contains(&0);
        if matches!(&content, Content::Symlink(target) if bad(target)) {
            return Err(Fault::BadLink);
        }
        let path = self.place(path)?;
        self.put(&path, Node::Other(Rc::new(Inode { meta, content })))
    }

    /// Adds a further name for what is at `target`.
    ///
    /// # Errors
    /// Why it cannot be there, or the other is not.
    pub fn hard_link(&mut self, path: &Path, target: &Path) -> Result<(), Fault> {
        let fault = |why: String| Fault::HardLink { target: target.to_string(), why };
        let to = self.resolve(target).map_err(|why| fault(why.to_string()))?;
        let inode = match self.at(&to).map(|e| &e.node) {
            Some(Node::Other(inode)) => Rc::clone(inode),
            Some(Node::Folder(_)) => return Err(fault("it is a folder".into())),
            None if to.split().is_none() => return Err(fault("it is a folder".into())),
            None => return Err(fault("it is not there".into())),
        };
        let path = self.place(path)?;
        if path == to {
            return Err(fault("that is itself".into()));
        }
        self.put(&path, Node::Other(inode))
    }

    /// Removes what earlier layers have at `path`.
    ///
    /// # Errors
    /// Something of this layer is there, or the path is none.
    pub fn whiteout(&mut self, path: &Path) -> Result<(), Fault> {
        let path = self.resolve(path)?;
        match self.at(&path) {
            Some(entry) if entry.is_of(self.layer) => return Err(Fault::OwnWhiteout),
            Some(_) => {
                let (folder, name) = path.split().ok_or(Fault::EmptyWhiteout)?;
                self.folder(folder)?.entries.remove(name);
            }
            None => {}
        }
        self.gone.insert(path);
        Ok(())
    }

    /// Removes what earlier layers have in the folder `path`.
    ///
    /// # Errors
    /// It is no folder, or the path is none.
    pub fn opaque(&mut self, path: &Path) -> Result<(), Fault> {
        let layer = self.layer;
        // As a folder on the way to something: if it is a symbolic link, it is followed.
        let inside = self.place(&Path::of([path.names(), &["x".to_string()]].concat())?)?;
        let Some((names, _)) = inside.split() else { return Ok(()) };
        self.folder(names)?.keep(layer);
        Ok(())
    }

    /// Calls `visit` for everything, each folder before what is in it; the root's path is empty.
    ///
    /// # Errors
    /// The first that `visit` returns.
    pub fn walk<E>(&self, visit: &mut impl FnMut(&str, Found<'_>) -> Result<(), E>) -> Result<(), E> {
        fn below<E>(folder: &Folder, at: &str, visit: &mut impl FnMut(&str, Found<'_>) -> Result<(), E>) -> Result<(), E> {
            visit(at, Found::Folder(&folder.meta))?;
            for (name, entry) in &folder.entries {
                let path = if at.is_empty() { name.clone() } else { format!("{at}/{name}") };
                match &entry.node {
                    Node::Folder(folder) => below(folder, &path, visit)?,
                    Node::Other(inode) => visit(&path, Found::Other(inode))?,
                }
            }
            Ok(())
        }
        below(&self.root, "", visit)
    }

    /// What is at `path`, as a walk would find it.
    pub fn find(&self, path: &str) -> Option<Found<'_>> {
        let path = Path::parse(path.as_bytes()).ok()?;
        if path.split().is_none() {
            return Some(Found::Folder(&self.root.meta));
        }
        Some(match &self.at(&path)?.node {
            Node::Folder(folder) => Found::Folder(&folder.meta),
            Node::Other(inode) => Found::Other(inode),
        })
    }
}
