//! The documents and the catalogue agree.

use super::*;

fn default_shown(spec: &catalogue::Spec) -> &'static str {
    match spec.default {
        catalogue::Fallback::Required => "required",
        catalogue::Fallback::Unset => "unset",
        catalogue::Fallback::Value(value) | catalogue::Fallback::Derived(value) => value,
    }
}

#[test]
fn settings_document_matches_catalogue() {
    let documented: Vec<&str> =
        include_str!("../../../docs/SETTINGS.md").lines().filter(|line| line.starts_with("| `")).collect();
    let expected: Vec<String> = catalogue::ALL
        .iter()
        .map(|spec| {
            let range = match spec.kind {
                catalogue::SettingKind::Text => "text".to_owned(),
                catalogue::SettingKind::Path => "path".to_owned(),
                catalogue::SettingKind::Secret => "secret".to_owned(),
                _ => spec.expected(),
            };
            let default = match spec.default {
                catalogue::Fallback::Value(value) => format!("`{value}`"),
                _ => default_shown(spec).to_owned(),
            };
            format!("| `{}` | {default} | {range} | {} |", spec.name, spec.meaning)
        })
        .collect();
    assert_eq!(documented, expected, "expected:\n{}", expected.join("\n"));
}

#[test]
fn default_toml_matches_catalogue() {
    let file = include_str!("../../../config/default.toml");
    let settings: Vec<&str> = file
        .lines()
        .filter(|line| line.starts_with('#') && line.contains(" = ") && !line.starts_with("# "))
        .collect();
    let expected: Vec<String> = catalogue::ALL
        .iter()
        .map(|spec| match (spec.kind, spec.default) {
            (_, catalogue::Fallback::Required | catalogue::Fallback::Unset) => {
                format!("#{} = \"\"", spec.name)
            }
            (
                catalogue::SettingKind::Text
                | catalogue::SettingKind::Path
                | catalogue::SettingKind::Word(_)
                | catalogue::SettingKind::LogLevels
                | catalogue::SettingKind::Listener,
                _,
            ) => {
                format!("#{} = \"{}\"", spec.name, default_shown(spec))
            }
            _ => format!("#{} = {}", spec.name, default_shown(spec).split(',').next().unwrap()),
        })
        .collect();
    assert_eq!(settings, expected, "expected:\n{}", expected.join("\n"));
    for spec in catalogue::ALL {
        assert!(file.contains(&format!("# {}", spec.meaning)), "{}", spec.meaning);
    }
    assert!(load_with(&[], &[("config/default.toml", file)]).is_ok());
}
