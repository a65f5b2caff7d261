//! `save`: images into an archive or a directory that other tools load.

use super::changes;
use crate::args::{SaveArgs, SaveFormat};
use crate::error::Failure;
use crate::settings;
use fcvm_image::{ArchiveFormat, Image, ImageStore, whole_name};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Where what is saved goes.
enum Target {
    Output(File),
    File(ArchiveFormat, PathBuf),
    Directory(PathBuf),
}

/// Writes images.
pub(super) fn save(args: &SaveArgs, data_dir: &Path) -> Result<(), Failure> {
    let engine = settings::engine(data_dir)?;
    let target = target(args)?;
    let images = wanted(args, engine.images().store())?;
    let bundle = engine.images().pack(&images)?;
    match target {
        Target::Output(output) => bundle.write(format(args.format), output, Path::new("standard output"))?,
        Target::File(format, path) => bundle.write_file(format, &path)?,
        Target::Directory(dir) => bundle.write_layout(&dir)?,
    }
    Ok(())
}

/// Looks at where it is to go before the images are read.
fn target(args: &SaveArgs) -> Result<Target, Failure> {
    let refused = |text: String| Err(Failure::new(text));
    match (args.format, &args.output) {
        (SaveFormat::OciDir, None) => refused("--format oci-dir wants a directory: name it with --output".to_owned()),
        (SaveFormat::OciDir, Some(dir)) => Ok(Target::Directory(dir.clone())),
        (_, None) => Ok(Target::Output(changes::standard_output()?)),
        // As podman: an archive of docker's could be one that is to be added to, which it cannot be.
        (SaveFormat::DockerArchive, Some(path))
            if fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() > 0) =>
        {
            refused(format!("{} is there, and nothing is added to an archive; remove it first", path.display()))
        }
        (_, Some(path)) => Ok(Target::File(format(args.format), path.clone())),
    }
}

fn format(format: SaveFormat) -> ArchiveFormat {
    match format {
        SaveFormat::DockerArchive => ArchiveFormat::Docker,
        SaveFormat::OciArchive | SaveFormat::OciDir => ArchiveFormat::Oci,
    }
}

/// The images, each with the names that it is to have.
fn wanted(args: &SaveArgs, store: &ImageStore) -> Result<Vec<(Image, Vec<String>)>, Failure> {
    let (first, more) = args.images.split_first().ok_or_else(|| Failure::new("name an image"))?;
    if !more.is_empty() && args.format != SaveFormat::DockerArchive {
        return Err(Failure::new("only a docker-archive holds several images, or one by several names"));
    }
    let named = |name: &String| store.find(name).map(|(image, name)| (image, name.into_iter().collect::<Vec<_>>()));
    let (image, name) = named(first)?;
    if args.multi_image_archive {
        let more = more.iter().map(named).collect::<Result<Vec<_>, _>>()?;
        return Ok([vec![(image, name)], more].concat());
    }
    // In podman's order: the name by which it was found is the last.
    let more = more.iter().map(|name| whole_name(name)).collect::<Result<Vec<_>, _>>()?;
    Ok(vec![(image, [more, name].concat())])
}
