//! Checks of the log on disk against the offsets of the lanes in SQL.

use serde::Serialize;

use super::{FindingKind, Findings};
use crate::domain::message::Offset;

/// The contents of an inbox directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct InboxFacts {
    /// Its name.
    pub id: String,
    /// Whether a gateway uses it.
    pub in_use: bool,
    /// Number of records.
    pub records: u64,
    /// Size of its segments in bytes.
    pub bytes: u64,
    /// Whether its meta file is missing or cannot be read.
    pub is_meta_lost: bool,
    /// Number of unreadable ranges that are followed by intact records.
    pub damages: u64,
    /// Upper bound of the offsets in unreadable ranges.
    pub damaged_below: Offset,
    /// First offset of the newest segment, if it was found.
    pub newest_base: Option<Offset>,
    /// Offset above the last record.
    pub end: Offset,
    /// Lowest offset that was never issued.
    pub never_issued: Offset,
    /// Its lanes.
    pub lanes: Vec<LaneFacts>,
    /// Mismatches between the inbox and the database, as sentences.
    pub mismatches: Vec<String>,
}

/// A directory in which no inbox can be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MissingInbox {
    /// Its path.
    pub path: String,
    /// Whether it has files of an inbox, of which none can be read.
    pub has_files: bool,
}

/// The position of a lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LaneFacts {
    /// Number of the lane, from 0.
    pub lane: u32,
    /// `inbox_offsets.next_offset`; `None` if the lane has never run.
    pub next_offset: Option<Offset>,
    /// The lowest offset of its lagging flows.
    pub lagging_from: Option<Offset>,
    /// Number of records at and above its offset.
    pub waiting: u64,
    /// Its committed offset by the directory.
    pub committed: Option<Offset>,
}

pub(super) fn check(inbox: &InboxFacts, findings: &mut Findings<'_>) {
    if inbox.damages > 0 {
        check_damage(inbox, findings);
    }
    if inbox.is_meta_lost {
        findings.look(
            FindingKind::Damage,
            "the meta file of the inbox is missing or cannot be read: the next start builds it again from the segments"
                .to_owned(),
        );
    }
    for mismatch in &inbox.mismatches {
        findings.look(FindingKind::Identity, mismatch.clone());
    }
    for lane in &inbox.lanes {
        check_set_back(lane, findings);
        let Some(next) = lane.next_offset else { continue };
        check_lane(inbox, lane.lane, next, findings);
    }
}

pub(super) fn check_missing(missing: &MissingInbox, known_inboxes: u64, findings: &mut Findings<'_>) {
    let path = &missing.path;
    if missing.has_files {
        findings.wrong(
            FindingKind::Damage,
            format!("no file of the inbox in {path} can be read: the next start puts them into quarantine, and its messages that were not stored are lost"),
        );
    } else if known_inboxes > 0 {
        findings.look(
            FindingKind::NoInbox,
            format!(
                "there is no inbox in INBOX_DIR {path}, so its messages are not checked. Run the audit with the settings of the \
                 gateway, where its inbox is"
            ),
        );
    }
}

/// Reports damage. It is unknown whether the lanes had passed the range before the damage occurred.
fn check_damage(inbox: &InboxFacts, findings: &mut Findings<'_>) {
    let found = format!("{} ranges of the log cannot be read", inbox.damages);
    let done_below =
        |lane: &LaneFacts| lane.next_offset.min(lane.lagging_from.or(lane.next_offset)).unwrap_or(0);
    let is_before = |lane: &LaneFacts| done_below(lane) < inbox.damaged_below;
    if inbox.lanes.iter().any(is_before) {
        findings.wrong(
            FindingKind::Damage,
            format!("{found}, and not all lanes are past them: their messages are lost; the next start keeps a copy in quarantine"),
        );
    } else {
        findings
            .look(FindingKind::Damage, format!("{found}; their messages were processed before, or are lost"));
    }
}

/// Reports a lane whose committed offset is higher than its offset in the database.
fn check_set_back(lane: &LaneFacts, findings: &mut Findings<'_>) {
    let now = lane.next_offset.unwrap_or(0);
    let Some(committed) = lane.committed.filter(|committed| *committed > now) else { return };
    findings.wrong(
        FindingKind::DatabaseWentBack,
        format!(
            "lane {} was committed up to offset {committed}, but the database has offset {now}: a backup was restored, or a \
             failover lost the last commits. A running gateway processes the messages again that the inbox holds",
            lane.lane
        ),
    );
}

fn check_lane(inbox: &InboxFacts, lane: u32, next: Offset, findings: &mut Findings<'_>) {
    if next > inbox.never_issued {
        let found = format!(
            "lane {lane} is at offset {next} in SQL, but this inbox has only issued offsets below {}: an old copy of the inbox \
             was restored",
            inbox.never_issued
        );
        if inbox.in_use {
            findings.wrong(FindingKind::OffsetTooHigh, format!("{found}, and the next messages are skipped"));
        } else {
            findings
                .look(FindingKind::OffsetTooHigh, format!("{found}; the next start issues offsets above it"));
        }
    } else if inbox.newest_base.is_some_and(|newest| next > inbox.end.max(newest)) {
        let found = format!("lane {lane} is at offset {next} in SQL, but the log ends at {}", inbox.end);
        if inbox.in_use {
            findings.wrong(FindingKind::OffsetTooHigh, format!("{found}: the next messages are skipped"));
        } else {
            findings.look(
                FindingKind::OffsetTooHigh,
                format!("{found}: its end was lost, by a power failure or by hand, after the commit in SQL"),
            );
        }
    }
}
