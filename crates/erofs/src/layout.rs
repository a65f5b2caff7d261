//! The end of an image: where every inode goes, then the bytes. Three walks over the tree in the same order.

use crate::blocks::Blocks;
use crate::format::{self, BLOCK, Dirent, INODE, Inode, SLOT, Storage, Superblock};
use crate::tree::{Directory, Node, NodeId, Payload, Timestamp, Tree};
use crate::{Error, Summary};

/// Where a node's inode and data are.
#[derive(Clone, Copy, Debug)]
struct Placed {
    id: NodeId,
    /// The inode's offset within the metadata in bytes.
    offset: u64,
    storage: Storage,
    size: u64,
}

impl Placed {
    fn nid(&self) -> u64 {
        self.offset / SLOT
    }
}

#[derive(Debug)]
struct Layout {
    tree: Tree,
    /// In the order of their offsets.
    order: Vec<Placed>,
    /// Where in `order` a node is, by its slot; `u32::MAX` if it is not there yet.
    index: Vec<u32>,
    /// The end of the metadata so far.
    end: u64,
    /// The next block for data that does not fit behind its inode.
    next_block: u64,
}

const NOWHERE: u32 = u32::MAX;

/// Appends all metadata and the superblock.
pub(crate) fn finish(tree: Tree, mut blocks: Blocks, uuid: [u8; 16]) -> Result<Summary, Error> {
    let mut layout = Layout {
        index: vec![NOWHERE; tree.slot_count()],
        order: Vec::with_capacity(tree.live() as usize),
        // Inode number 0 would make `readdir` skip the entry.
        end: SLOT,
        next_block: u64::from(blocks.next_block()),
        tree,
    };
    layout.place_all()?;
    layout.write_blocks(&mut blocks)?;
    let meta_block = blocks.next_block();
    layout.write_inodes(&mut blocks)?;
    blocks.align()?;
    let nodes = layout.order.len() as u64;
    let superblock = Superblock {
        root: layout.order[0].nid() as u16,
        inodes: nodes,
        blocks: blocks.next_block(),
        meta_block,
        uuid,
        time: Timestamp::default(),
    };
    let length = blocks.position();
    let file = blocks.finish(&format::first_block(&superblock))?;
    Ok(Summary { file, nodes, length })
}

impl Layout {
    /// Places the root, then directory by directory what is in it, so that listing one reads neighbouring inodes.
    fn place_all(&mut self) -> Result<(), Error> {
        self.place(Tree::ROOT)?;
        let mut pending = vec![Tree::ROOT];
        while let Some(dir) = pending.pop() {
            let children: Vec<NodeId> = self.tree.directory(dir)?.children.values().map(|name| name.node).collect();
            let before = pending.len();
            for child in children {
                if self.index[child.slot as usize] != NOWHERE {
                    continue;
                }
                self.place(child)?;
                if matches!(self.tree.node(child)?.payload, Payload::Directory(_)) {
                    pending.push(child);
                }
            }
            pending[before..].reverse();
        }
        Ok(())
    }

    fn place(&mut self, id: NodeId) -> Result<(), Error> {
        let node = self.tree.node(id)?;
        let fixed = (INODE + format::check_xattrs(&node.attributes)?) as u64;
        let size = match &node.payload {
            Payload::Directory(directory) => {
                format::pack_directory(sorted(directory, id).iter().map(|(name, _)| name.len())).1
            }
            Payload::File { size, .. } => *size,
            Payload::Symlink(target) => target.len() as u64,
            _ => 0,
        };
        let storage = match &node.payload {
            Payload::File { extent, .. } => Storage::Blocks(if extent.count == 0 { 0 } else { extent.first }),
            _ if size == 0 => Storage::Blocks(0),
            _ if fixed + size <= BLOCK as u64 => Storage::Inline,
            _ => {
                let first = u32::try_from(self.next_block).map_err(|_| Error::TooLarge { limit: u64::MAX })?;
                self.next_block += size.div_ceil(BLOCK as u64);
                Storage::Blocks(first)
            }
        };
        // An inode never crosses a block, and neither does what is inline behind it.
        let whole = if storage == Storage::Inline { fixed + size } else { INODE as u64 };
        let mut offset = self.end.next_multiple_of(SLOT);
        if offset % BLOCK as u64 + whole > BLOCK as u64 {
            offset = offset.next_multiple_of(BLOCK as u64);
        }
        self.end = offset + fixed + if storage == Storage::Inline { size } else { 0 };
        self.index[id.slot as usize] = self.order.len() as u32;
        self.order.push(Placed { id, offset, storage, size });
        Ok(())
    }

    /// Writes big directories and link targets that do not fit behind their inodes.
    fn write_blocks(&self, blocks: &mut Blocks) -> Result<(), Error> {
        for placed in &self.order {
            let node = self.tree.node(placed.id)?;
            if matches!(placed.storage, Storage::Inline) || matches!(node.payload, Payload::File { .. }) {
                continue;
            }
            blocks.append(&self.data(placed, node)?)?;
            blocks.align()?;
        }
        Ok(())
    }

    fn write_inodes(&self, blocks: &mut Blocks) -> Result<(), Error> {
        let start = blocks.position();
        for placed in &self.order {
            let node = self.tree.node(placed.id)?;
            let xattrs = format::xattrs(&node.attributes);
            let inode = Inode {
                // What `stat` shows is then what `readdir` shows.
                number: placed.nid() as u32,
                links: self.links(node)?,
                size: placed.size,
                storage: placed.storage,
                xattr_bytes: xattrs.len(),
            };
            blocks.pad_to(start + placed.offset)?;
            blocks.append(&format::inode(&inode, &node.attributes, &node.kind()))?;
            blocks.append(&xattrs)?;
            if placed.storage == Storage::Inline {
                blocks.append(&self.data(placed, node)?)?;
            }
        }
        Ok(())
    }

    fn links(&self, node: &Node) -> Result<u32, Error> {
        let Payload::Directory(directory) = &node.payload else { return Ok(node.links) };
        let mut links = 2;
        for child in directory.children.values() {
            links += u32::from(matches!(self.tree.node(child.node)?.payload, Payload::Directory(_)));
        }
        Ok(links)
    }

    /// The bytes of a directory or of a link's target.
    fn data(&self, placed: &Placed, node: &Node) -> Result<Vec<u8>, Error> {
        let directory = match &node.payload {
            Payload::Symlink(target) => return Ok(target.to_vec()),
            Payload::Directory(directory) => directory,
            _ => return Ok(Vec::new()),
        };
        let entries = sorted(directory, placed.id);
        let (counts, _) = format::pack_directory(entries.iter().map(|(name, _)| name.len()));
        let mut dirents = Vec::with_capacity(entries.len());
        for (name, id) in entries {
            let nid = self.order[self.index[id.slot as usize] as usize].nid();
            dirents.push(Dirent { name, nid, file_type: self.tree.node(id)?.kind().file_type() });
        }
        Ok(format::directory(&dirents, &counts))
    }
}

/// A directory's entries with `.` and `..` among them: the kernel searches by bytes, and `!` is before `.`.
fn sorted(directory: &Directory, id: NodeId) -> Vec<(&[u8], NodeId)> {
    let mut entries: Vec<(&[u8], NodeId)> = Vec::with_capacity(directory.children.len() + 2);
    entries.extend([(&b"."[..], id), (&b".."[..], directory.parent)]);
    entries.extend(directory.children.iter().map(|(text, name)| (&**text, name.node)));
    entries.sort_unstable_by_key(|(name, _)| *name);
    entries
}
