//! Assembles the typed settings from the reader.
//!
//! Each group reads all its settings before it returns an error, so that every problem is reported.

use std::path::PathBuf;
use std::time::Duration;

use super::catalogue::{self as names, Spec};
use super::layers::{Layers, Sources};
use super::reader::{InvalidSetting, SettingsReader};
use super::replicas::Purpose;
use super::{
    AdminSettings, CredentialSettings, DatabaseSettings, HttpRoute, InboxSettings, Loaded, LogFormat,
    LogRepeats, MqttSettings, OutboxSettings, RestartSettings, RetentionSettings, Settings, SettingsError,
    api, database, replicas,
};
use crate::domain::message_event::MESSAGES;
use crate::domain::payload::PayloadLimits;
use crate::domain::proxies::{Bypass, Proxies};
use crate::domain::replicas::Role;
use crate::domain::value_style::ValueStyle;
use crate::inbox::{FsyncPolicy, KeepPolicy};

/// Default size of an inbox segment: small enough to be freed soon, large enough to keep the number of files low.
const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

/// Loads the settings for a purpose from the given sources only.
pub(super) fn load_settings_for(purpose: Purpose, sources: &Sources<'_>) -> Result<Loaded, SettingsError> {
    let mut reader = SettingsReader::new(Layers::read(sources), sources.files);
    let log_format = log_format(&mut reader);
    let error_format = log_format.as_ref().map_or(LogFormat::Auto, |format| *format);
    let settings = settings(&mut reader, purpose, log_format);

    reader.problems.sort_by_key(|problem| position(&problem.name));
    reader.effective.sort_by_key(|shown| position(shown.name));
    match settings {
        Ok(settings) if reader.problems.is_empty() => {
            let effective = std::mem::take(&mut reader.effective);
            Ok(Loaded { settings, effective, warnings: reader.into_warnings() })
        }
        _ => Err(SettingsError::new(reader.problems, error_format)),
    }
}

/// Returns the position in the catalogue. Unknown names sort first, because they may cause the other problems.
fn position(name: &str) -> Option<usize> {
    names::ALL.iter().position(|spec| spec.name == name)
}

fn settings(
    reader: &mut SettingsReader<'_>,
    purpose: Purpose,
    log_format: Result<LogFormat, InvalidSetting>,
) -> Result<Settings, InvalidSetting> {
    let database = database::read(reader);
    let mqtt = mqtt(reader, database.as_ref().ok());
    let client_id = mqtt.as_ref().ok().map(|mqtt| mqtt.client_id.as_str());
    let role_and_group = replicas::role(reader, purpose, client_id);
    let flows_reload_interval = reader.seconds(&names::FLOWS_RELOAD_INTERVAL_SECONDS);
    let http_timeout = reader.fractional_seconds(&names::HTTP_TIMEOUT_SECONDS);
    let credentials = mqtt.as_ref().map(|mqtt| mqtt.credentials.clone()).unwrap_or_default();
    let http_route = http_route(reader, credentials);
    let outbox = outbox(reader);
    let dead_letters_warn_rows = reader.integer(&names::DEAD_LETTERS_WARN_ROWS);
    let retention = retention(reader);
    let limits = limits(reader);
    let inbox = inbox(reader);
    let role = role_and_group.as_ref().ok().map(|(role, _)| role);
    let lanes = reader.integer_or(&names::LANES, default_lanes(database.as_ref().ok(), role));
    let has_explicit_lanes = reader.is_set(&names::LANES);
    let batch_max_messages = reader.integer(&names::BATCH_MAX_MESSAGES);
    let batch_max_bytes = reader.integer(&names::BATCH_MAX_BYTES);
    let max_linger = reader.milliseconds(&names::LINGER_MAX_MS);
    let flow_lock_wait = reader.seconds(&names::FLOW_LOCK_WAIT_SECONDS);
    let keys_known_for = reader.seconds(&names::MESSAGE_KEY_SECONDS);
    let drain_deadline = reader.seconds(&names::DRAIN_DEADLINE_SECONDS);
    let value_style = value_style(reader);
    let admin = admin(reader);
    let api = api::read(reader);
    let log_dir = reader.path(&names::LOG_DIR);
    let log_dir_max_bytes = reader.integer_if_set(&names::LOG_DIR_MAX_BYTES);
    let log_filter = log_filter(reader);
    let log_repeats = log_repeats(reader);
    let mailbox_report_interval = reader.seconds(&names::MAILBOX_REPORT_SECONDS);
    let restarts = restarts(reader);
    let (role, group) = role_and_group?;
    Ok(Settings {
        database: database?,
        admin: admin?,
        api: api?,
        log_dir: log_dir?,
        log_dir_max_bytes: log_dir_max_bytes?,
        log_format: log_format?,
        log_filter: log_filter?,
        log_repeats: log_repeats?,
        http_timeout: http_timeout?,
        http_route: http_route?,
        mqtt: mqtt?,
        role,
        group,
        flows_reload_interval: flows_reload_interval?,
        inbox: inbox?,
        lanes: lanes?,
        has_explicit_lanes,
        batch_max_messages: batch_max_messages?,
        batch_max_bytes: batch_max_bytes?,
        max_linger: max_linger?,
        flow_lock_wait: flow_lock_wait?,
        keys_known_for: keys_known_for?,
        drain_deadline: drain_deadline?,
        outbox: outbox?,
        dead_letters_warn_rows: dead_letters_warn_rows?,
        retention: retention?,
        value_style: value_style?,
        limits: limits?,
        mailbox_report_interval: mailbox_report_interval?,
        restarts: restarts?,
    })
}

/// Returns the default number of lanes.
///
/// A second lane works while the first one waits for the database. It is useless with the single writer of `SQLite`.
/// With several replicas the others do that work, and more concurrent transactions make each one slower.
fn default_lanes(database: Option<&DatabaseSettings>, role: Option<&Role>) -> u32 {
    let waits_for_the_other = matches!(database, Some(DatabaseSettings::Sqlite { .. }));
    if waits_for_the_other || role.is_some_and(Role::is_one_of_several) { 1 } else { 2 }
}

fn log_filter(reader: &mut SettingsReader<'_>) -> Result<String, InvalidSetting> {
    let levels = reader.log_levels(&names::RUST_LOG);
    let logs_messages = reader.flag(&names::LOG_MESSAGES);
    // The last level of a target counts, so the operator's own levels stay in force.
    Ok(if logs_messages? { format!("{MESSAGES}=debug,{}", levels?) } else { levels? })
}

fn mqtt(
    reader: &mut SettingsReader<'_>,
    database: Option<&DatabaseSettings>,
) -> Result<MqttSettings, InvalidSetting> {
    let client_id = reader.text(&names::MQTT_CLIENT_ID);
    let keepalive = reader.seconds(&names::MQTT_KEEPALIVE);
    let session_expiry_seconds = reader.integer(&names::MQTT_SESSION_EXPIRY_SECONDS);
    let qos = reader.integer(&names::MQTT_QOS);
    let skip_repeated_retained = reader.flag(&names::MQTT_SKIP_REPEATED_RETAINED);
    let credentials = credentials(reader, database);
    Ok(MqttSettings {
        client_id: client_id?,
        keepalive: keepalive?,
        session_expiry_seconds: session_expiry_seconds?,
        qos: qos?,
        skip_repeated_retained: skip_repeated_retained?,
        credentials: credentials?,
    })
}

fn credentials(
    reader: &mut SettingsReader<'_>,
    database: Option<&DatabaseSettings>,
) -> Result<CredentialSettings, InvalidSetting> {
    let dir = reader.path(&names::CREDENTIALS_DIR);
    let env_prefix = reader.text(&names::CREDENTIALS_ENV_PREFIX);
    let names_a_file = |spec: &&Spec| spec.name.ends_with("_FILE");
    let named = names::ALL.iter().filter(names_a_file).filter_map(|spec| reader.configured_path(spec));
    let of_database = database.into_iter().flat_map(DatabaseSettings::private_files);
    let files_of_settings = named.chain(of_database).collect();
    Ok(CredentialSettings { dir: dir?, env_prefix: env_prefix?, files_of_settings })
}

fn http_route(
    reader: &mut SettingsReader<'_>,
    credentials: CredentialSettings,
) -> Result<HttpRoute, InvalidSetting> {
    let http = reader.proxy(&names::HTTP_PROXY);
    let https = reader.proxy(&names::HTTPS_PROXY);
    let all = reader.proxy(&names::ALL_PROXY);
    let bypass = reader.text_if_set(&names::NO_PROXY);
    let ca_bundle = reader.text_if_set(&names::REQUESTS_CA_BUNDLE);
    let curls_ca_bundle = reader.text_if_set(&names::CURL_CA_BUNDLE);
    let networks = reader.networks(&names::ENDPOINT_NETWORKS);
    let bypass = Bypass::parse(&bypass?.unwrap_or_default());
    Ok(HttpRoute {
        proxies: Proxies { http: http?, https: https?, all: all?, bypass },
        ca_bundle: ca_bundle?.or(curls_ca_bundle?).map(PathBuf::from),
        networks: networks?.unwrap_or_default(),
        credentials,
    })
}

fn outbox(reader: &mut SettingsReader<'_>) -> Result<OutboxSettings, InvalidSetting> {
    let max_age = reader.seconds(&names::OUTBOX_MAX_AGE_SECONDS);
    let max_rows_per_flow = reader.integer(&names::OUTBOX_MAX_ROWS_PER_FLOW);
    Ok(OutboxSettings { max_age: max_age?, max_rows_per_flow: max_rows_per_flow? })
}

fn retention(reader: &mut SettingsReader<'_>) -> Result<RetentionSettings, InvalidSetting> {
    let letters_max_age = reader.integer_if_set(&names::DEAD_LETTERS_MAX_AGE_SECONDS);
    let letters_max_rows = reader.integer_if_set(&names::DEAD_LETTERS_MAX_ROWS);
    let data_max_age = reader.integer_if_set(&names::DATA_MAX_AGE_SECONDS);
    Ok(RetentionSettings {
        letters_max_age: letters_max_age?.map(Duration::from_secs),
        letters_max_rows: letters_max_rows?,
        data_max_age: data_max_age?.map(Duration::from_secs),
    })
}

fn limits(reader: &mut SettingsReader<'_>) -> Result<PayloadLimits, InvalidSetting> {
    let max_payload_bytes = reader.integer(&names::MAX_PAYLOAD_BYTES);
    let max_depth = reader.integer(&names::MAX_DEPTH);
    let max_attributes = reader.integer(&names::MAX_ATTRIBUTES);
    Ok(PayloadLimits {
        max_payload_bytes: max_payload_bytes?,
        max_depth: max_depth?,
        max_attributes: max_attributes?,
    })
}

fn inbox(reader: &mut SettingsReader<'_>) -> Result<InboxSettings, InvalidSetting> {
    let dir = reader.path(&names::INBOX_DIR);
    let max_bytes = reader.integer(&names::INBOX_MAX_BYTES);
    let default_segment = max_bytes.as_ref().map_or(SEGMENT_BYTES, |max: &u64| SEGMENT_BYTES.min(max / 4));
    let segment_bytes = reader.integer_or(&names::INBOX_SEGMENT_BYTES, default_segment);
    let keep_age = reader.seconds(&names::INBOX_KEEP_SECONDS);
    let quarter = max_bytes.as_ref().map_or(0, |max: &u64| max / 4);
    let keep_bytes = reader.integer_or(&names::INBOX_KEEP_BYTES, quarter);
    let fsync = fsync(reader);
    let keep = KeepPolicy { max_age: keep_age?, max_bytes: keep_bytes? };
    Ok(InboxSettings { dir: dir?, max_bytes: max_bytes?, segment_bytes: segment_bytes?, keep, fsync: fsync? })
}

fn fsync(reader: &mut SettingsReader<'_>) -> Result<FsyncPolicy, InvalidSetting> {
    let policy = reader.word(&names::INBOX_FSYNC);
    let interval = reader.milliseconds(&names::INBOX_FSYNC_INTERVAL_MS)?;
    Ok(match policy?.as_str() {
        "always" => FsyncPolicy::Always,
        "never" => FsyncPolicy::Never,
        _ => FsyncPolicy::Interval(interval),
    })
}

fn value_style(reader: &mut SettingsReader<'_>) -> Result<ValueStyle, InvalidSetting> {
    Ok(match reader.word(&names::VALUE_STYLE)?.as_str() {
        "json" => ValueStyle::Json,
        _ => ValueStyle::Python,
    })
}

fn admin(reader: &mut SettingsReader<'_>) -> Result<Option<AdminSettings>, InvalidSetting> {
    let address = reader.listener(&names::ADMIN_BIND)?;
    let is_default = reader.is_default(&names::ADMIN_BIND);
    Ok(address.map(|address| AdminSettings { address, is_default }))
}

fn log_format(reader: &mut SettingsReader<'_>) -> Result<LogFormat, InvalidSetting> {
    Ok(match reader.word(&names::LOG_FORMAT)?.as_str() {
        "human" => LogFormat::Human,
        "json" => LogFormat::Json,
        _ => LogFormat::Auto,
    })
}

fn log_repeats(reader: &mut SettingsReader<'_>) -> Result<LogRepeats, InvalidSetting> {
    let window = reader.seconds(&names::LOG_REPEAT_SECONDS);
    let burst = reader.integer(&names::LOG_REPEAT_BURST);
    Ok(LogRepeats { window: window?, burst: burst? })
}

fn restarts(reader: &mut SettingsReader<'_>) -> Result<RestartSettings, InvalidSetting> {
    let max = reader.integer(&names::RESTART_BUDGET);
    let window = reader.seconds(&names::RESTART_WINDOW_SECONDS);
    Ok(RestartSettings { max: max?, window: window? })
}
