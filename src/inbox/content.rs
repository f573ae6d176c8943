//! What an inbox directory holds: its segments and its meta data. Reading them changes nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::InboxId;
use super::error::InboxError;
use super::meta::{Meta, StoredMeta};
use super::segment::{self, SegmentHeader};
use crate::domain::message::Offset;

/// A segment file before the walk.
pub(super) struct Candidate {
    pub(super) base: Offset,
    pub(super) path: PathBuf,
    /// The header, if it is intact and matches the file name.
    pub(super) header: Option<SegmentHeader>,
}

/// The origin of an inbox's id, lanes and next offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetaOrigin {
    /// The directory was empty: a new inbox.
    Created,
    /// The meta file.
    Read,
    /// The meta file was lost and rebuilt from segment headers.
    Rebuilt,
    /// The meta file was lost and no segment header was intact. The inbox has a new id, and the old files are
    /// in quarantine.
    Replaced,
}

/// The segment files of a directory, ordered by offset. A file that a running gateway deletes meanwhile is left out.
pub(super) fn candidates(dir: &Path) -> Result<Vec<Candidate>, InboxError> {
    let mut candidates = Vec::new();
    for entry in fs::read_dir(dir).map_err(InboxError::io("list", dir))? {
        let path = entry.map_err(InboxError::io("list", dir))?.path();
        let Some(base) = segment::base_of(&path) else { continue };
        match SegmentHeader::read(&path) {
            Ok(header) => {
                let header = header.filter(|header| header.base == base);
                candidates.push(Candidate { base, path, header });
            }
            Err(InboxError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    candidates.sort_by_key(|candidate| candidate.base);
    Ok(candidates)
}

/// The meta data of the directory with these segments, and where it comes from; none for a new inbox.
pub(super) fn known_meta(
    dir: &Path,
    candidates: &[Candidate],
) -> Result<(Option<Meta>, MetaOrigin), InboxError> {
    let is_unusable = match Meta::load(dir)? {
        StoredMeta::Intact(meta) if !is_outdated(&meta, candidates) => {
            return Ok((Some(meta), MetaOrigin::Read));
        }
        StoredMeta::Intact(_) | StoredMeta::Corrupt => true,
        StoredMeta::Missing => false,
    };
    let highest = candidates.last().map_or(0, |candidate| candidate.base);
    // The newest header belongs to the last start, even if other files were copied into the directory.
    match candidates.iter().rev().find_map(|candidate| candidate.header) {
        Some(header) => Ok((Some(Meta::rebuilt(header.id, header.lanes, highest)?), MetaOrigin::Rebuilt)),
        None if is_unusable || !candidates.is_empty() => Ok((None, MetaOrigin::Replaced)),
        None => Ok((None, MetaOrigin::Created)),
    }
}

/// Returns whether the meta file is an old copy: its offsets were issued since.
fn is_outdated(meta: &Meta, candidates: &[Candidate]) -> bool {
    let headers = candidates.iter().filter_map(|candidate| candidate.header);
    headers.filter(|header| header.id == meta.id).any(|header| header.base >= meta.next_base)
}

/// The files and first offsets of an inbox's segments, without those that the next start puts into quarantine.
pub(super) fn segments_of(candidates: Vec<Candidate>, id: &InboxId) -> Vec<(Offset, PathBuf)> {
    let ours =
        candidates.into_iter().filter(|candidate| candidate.header.is_some_and(|header| header.id == *id));
    ours.map(|candidate| (candidate.base, candidate.path)).collect()
}
