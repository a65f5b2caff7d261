//! Random layers, merged by the room and by a map that is too simple to be wrong: whiteouts first, then entries in order.

use super::{Layer, Limits, merged_with};
use proptest::prelude::*;
use std::collections::BTreeMap;
use tar::EntryType;

#[derive(Clone, Debug)]
enum Op {
    Directory(String),
    File(String, u8),
    Link(String, String),
    Whiteout(String),
    Opaque(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    /// Nothing for a directory, else which file it is: hard links share it.
    file: Option<(usize, u8)>,
    explicit: bool,
    new: bool,
}

#[derive(Clone, Debug, Default)]
struct Model {
    nodes: BTreeMap<String, Node>,
    files: usize,
}

impl Model {
    fn remove(&mut self, path: &str) {
        let below = format!("{path}/");
        self.nodes.retain(|found, _| found != path && !found.starts_with(&below));
    }

    fn parents(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            let parent = &path[..at];
            if self.nodes.get(parent).is_none_or(|node| node.file.is_some()) {
                self.nodes.insert(parent.into(), Node { file: None, explicit: false, new: true });
            }
        }
    }

    fn place(&mut self, path: &str, file: Option<(usize, u8)>) {
        self.parents(path);
        if file.is_some() || self.nodes.get(path).is_some_and(|node| node.file.is_some()) {
            self.remove(path);
        }
        self.nodes.insert(path.into(), Node { file, explicit: true, new: true });
    }

    /// Applies a layer and returns it without the operations that make no sense.
    fn layer(&mut self, ops: Vec<Op>) -> Vec<Op> {
        self.nodes.values_mut().for_each(|node| node.new = false);
        for op in &ops {
            match op {
                Op::Whiteout(path) => self.remove(path),
                Op::Opaque(path) => self.nodes.retain(|found, _| !found.starts_with(&format!("{path}/"))),
                _ => {}
            }
        }
        let mut sensible = Vec::new();
        for op in ops {
            match &op {
                Op::Directory(path) => self.place(path, None),
                Op::File(path, data) => {
                    self.files += 1;
                    self.place(path, Some((self.files, *data)));
                }
                Op::Link(path, target) => {
                    let source = self.nodes.get(target).filter(|node| node.new).and_then(|node| node.file);
                    let Some(source) = source else { continue };
                    // A link below or above what it names would take it away.
                    if path.starts_with(target.as_str()) || target.starts_with(path.as_str()) {
                        continue;
                    }
                    self.place(path, Some(source));
                }
                Op::Whiteout(_) | Op::Opaque(_) => {}
            }
            sensible.push(op);
        }
        sensible
    }

    /// Every path with its mode, data, and how many names the file has.
    fn shape(&self) -> Vec<String> {
        let line = |(path, node): (&String, &Node)| match node.file {
            None => format!("/{path} {:o}", if node.explicit { 0o040_750 } else { 0o040_755 }),
            Some((file, data)) => {
                let same = self.nodes.values().filter(|node| node.file.is_some_and(|(other, _)| other == file));
                format!("/{path} {:o} {data} {}", 0o100_640, same.count())
            }
        };
        self.nodes.iter().map(line).collect()
    }
}

fn encode(ops: &[Op]) -> Vec<u8> {
    let beside = |path: &str, prefix: &str| match path.rsplit_once('/') {
        Some((parent, name)) => format!("{parent}/{prefix}{name}"),
        None => format!("{prefix}{path}"),
    };
    let add = |layer: Layer, op: &Op| match op {
        Op::Directory(path) => layer.dir(path),
        Op::File(path, data) => layer.raw(path.as_bytes(), EntryType::Regular, b"", &[*data]),
        Op::Link(path, target) => layer.link(path, target),
        Op::Whiteout(path) => layer.file(&beside(path, ".wh."), ""),
        Op::Opaque(path) => layer.file(&format!("{path}/.wh..wh..opq"), ""),
    };
    ops.iter().fold(Layer::new(), add).bytes()
}

fn path() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof!["a", "b", "c"], 1..4).prop_map(|parts| parts.join("/"))
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => path().prop_map(Op::Directory),
        4 => (path(), any::<u8>()).prop_map(|(path, data)| Op::File(path, data)),
        2 => (path(), path()).prop_map(|(path, target)| Op::Link(path, target)),
        2 => path().prop_map(Op::Whiteout),
        1 => path().prop_map(Op::Opaque),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn merging_any_layers_is_what_the_model_says(
        layers in proptest::collection::vec(proptest::collection::vec(op(), 0..12), 1..5),
    ) {
        let mut model = Model::default();
        let encoded: Vec<Vec<u8>> = layers.into_iter().map(|ops| encode(&model.layer(ops))).collect();
        let tree = merged_with(&Limits::default(), &encoded).unwrap();
        let line = |(path, found): (&String, &super::Found)| match found.data.as_slice() {
            _ if found.mode & 0o170_000 == 0o040_000 => format!("{path} {:o}", found.mode),
            data => format!("{path} {:o} {} {}", found.mode, data[0], found.links),
        };
        let shape: Vec<String> = tree.iter().filter(|(path, _)| *path != "/").map(line).collect();
        prop_assert_eq!(shape, model.shape());
    }

    #[test]
    fn no_bytes_make_merging_panic(mut bytes in proptest::collection::vec(any::<u8>(), 512..2048), kind in any::<u8>()) {
        bytes[156] = kind;
        bytes[124..136].copy_from_slice(b"00000001000\0");
        let sum: u32 = bytes[..512].iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) }).sum();
        bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let _ = merged_with(&Limits::default(), &[bytes]);
    }
}
