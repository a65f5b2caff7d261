//! Files of a guest: asked for, and given, as tar streams.

use serde::{Deserialize, Serialize};

/// Asks for a file or a directory: [`crate::message::HostRequest::Pack`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pack {
    /// Where it is, from the root of the tree.
    pub path: String,
    /// The name that it has in the stream.
    pub name: String,
    /// In which of the trees.
    #[serde(default)]
    pub tree: Tree,
    /// Whether the stream may tell of holes; if not, they are zeros.
    #[serde(default)]
    pub holes: bool,
    /// Whether the container's processes stand still until all is packed.
    #[serde(default)]
    pub still: bool,
}

/// One of the views of a container's files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tree {
    /// What the container's processes see, mounts and all.
    #[default]
    Container,
    /// The image and what was written over it, without what is mounted there.
    Root,
    /// What was written to the view of this volume, as the layer of an overlay has it: what is deleted is a device 0, 0.
    View(u32),
}

/// The first word of the answer to a [`Pack`]; the stream follows, and then one [`crate::message::Done`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Found {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// Nothing follows; the reason is for people.
    Failed(String),
}

/// Gives files: [`crate::message::HostRequest::Unpack`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unpack {
    /// Where to, from the container's root, as it was typed: a slash at its end says that it is a directory.
    pub path: String,
    /// What comes.
    pub coming: Coming,
    /// Who is to own it.
    #[serde(default)]
    pub owner: Ownership,
    /// Whether a directory may take the place of a file, and a file that of a directory.
    #[serde(default)]
    pub overwrite: bool,
}

/// What a stream brings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Coming {
    /// A file of this name.
    File(String),
    /// A directory of this name.
    Directory(String),
    /// What is in a directory.
    Contents,
    /// An archive of the user's.
    Archive,
}

/// Who owns what is unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ownership {
    /// The user that the container runs as.
    #[default]
    Container,
    /// Whom the stream says.
    Told,
}
