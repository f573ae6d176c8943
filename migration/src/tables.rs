//! The schema of an empty database.
//!
//! `data`, `flows` and `mqtt_servers` equal the tables that `SQLAlchemy` creates for the former Python service, with
//! two exceptions. Identifiers are `BIGINT`, because `INT` lasts 40 hours at full speed. `flows.message_key`, `flows.options` and the
//! last five columns of `mqtt_servers` are additional.

use mqtt_gateway_entity::{
    api_tokens, data, database_identity, dead_letters, edit_history, flow_fields, flow_revision, flows,
    gateway_members, gateway_starts, inbox_lagging, inbox_offsets, message_keys, mqtt_servers, outbox,
    outbox_owners, outbox_pauses,
};
use sea_orm::sea_query::{ColumnDef, Index, IndexCreateStatement, IntoIden, Table, TableCreateStatement};
use sea_orm::{DbBackend, Iden};

/// A table with its index, if any.
pub(crate) struct TableDefinition {
    pub(crate) table: &'static str,
    pub(crate) create: TableCreateStatement,
    pub(crate) index: Option<(&'static str, IndexCreateStatement)>,
}

/// All tables, in the order of creation.
pub(crate) fn tables(backend: DbBackend) -> Vec<TableDefinition> {
    let types = Types { backend };
    vec![
        data_table(types),
        flows_table(types),
        flow_revision_table(types),
        edit_history_table(types),
        mqtt_servers_table(types),
        inbox_offsets_table(types),
        inbox_lagging_table(types),
        outbox_table(types),
        outbox_owners_table(types),
        outbox_pauses_table(types),
        dead_letters_table(types),
        message_keys_table(types),
        gateway_members_table(types),
        gateway_starts_table(types),
        database_identity_table(types),
        api_tokens_table(types),
        flow_fields_table(types),
    ]
}

fn data_table(types: Types) -> TableDefinition {
    use data::Column;
    types.table("data", |table| {
        table
            .col(key(Column::Id))
            .col(types.second(Column::ReceivedAt).not_null())
            .col(text_of(Column::FlowCode, 100).null())
            .col(text_of(Column::AttributeName, 255).null())
            .col(ColumnDef::new(Column::AttributeValue).text().null())
            .col(ColumnDef::new(Column::LastMsgId).big_integer().null());
    })
}

fn flows_table(types: Types) -> TableDefinition {
    use flows::Column;
    types.table("flows", |table| {
        table
            .col(key(Column::Id))
            .col(text_of(Column::Code, 100).not_null().unique_key())
            .col(text_of(Column::Description, 255).not_null())
            .col(text_of(Column::Topic, 255).not_null())
            .col(text_of(Column::Action, 30).not_null())
            .col(ColumnDef::new(Column::PayloadSchema).custom("JSON").not_null())
            .col(text_of(Column::EndpointUrl, 500).null())
            .col(ColumnDef::new(Column::LastMsgId).big_integer().null())
            .col(ColumnDef::new(Column::Enabled).boolean().null())
            .col(text_of(Column::MessageKey, 255).null())
            .col(ColumnDef::new(Column::Options).custom("JSON").null());
    })
}

fn mqtt_servers_table(types: Types) -> TableDefinition {
    use mqtt_servers::Column;
    types.table("mqtt_servers", |table| {
        table
            .col(key(Column::Id))
            .col(text_of(Column::Host, 255).not_null())
            .col(ColumnDef::new(Column::Port).integer().null())
            .col(text_of(Column::Username, 255).null())
            .col(text_of(Column::Password, 255).null())
            .col(ColumnDef::new(Column::Enabled).boolean().null())
            .col(ColumnDef::new(Column::IsDefault).boolean().null())
            .col(ColumnDef::new(Column::Tls).boolean().null())
            .col(text_of(Column::CaFile, 255).null())
            .col(text_of(Column::ClientCertFile, 255).null())
            .col(text_of(Column::ClientKeyFile, 255).null())
            .col(text_of(Column::ProtocolVersion, 10).null());
    })
}

fn inbox_offsets_table(types: Types) -> TableDefinition {
    use inbox_offsets::Column;
    types.table("inbox_offsets", |table| {
        table
            .col(types.hex_id(Column::InboxId))
            .col(ColumnDef::new(Column::Lane).integer().not_null())
            .col(ColumnDef::new(Column::Epoch).big_integer().not_null())
            .col(ColumnDef::new(Column::NextOffset).big_integer().not_null())
            .col(types.second(Column::UpdatedAt).null())
            .primary_key(Index::create().col(Column::InboxId).col(Column::Lane));
    })
}

fn inbox_lagging_table(types: Types) -> TableDefinition {
    use inbox_lagging::Column;
    types.table("inbox_lagging", |table| {
        table
            .col(types.hex_id(Column::InboxId))
            .col(ColumnDef::new(Column::Lane).integer().not_null())
            .col(ColumnDef::new(Column::FlowId).big_integer().not_null())
            .col(ColumnDef::new(Column::NextOffset).big_integer().not_null())
            .col(types.instant(Column::Since).not_null())
            .primary_key(Index::create().col(Column::InboxId).col(Column::Lane).col(Column::FlowId));
    })
}

fn outbox_table(types: Types) -> TableDefinition {
    use outbox::Column;
    const INDEX: &str = "outbox_of_owner";
    let mut definition = types.table("outbox", |table| {
        table
            .col(types.hex_id(Column::InboxId))
            .col(ColumnDef::new(Column::FlowId).big_integer().not_null())
            .col(ColumnDef::new(Column::InboxOffset).big_integer().not_null())
            .col(ColumnDef::new(Column::MessageId).big_integer().not_null())
            .col(text_of(Column::FlowCode, 100).null())
            .col(ColumnDef::new(Column::Topic).text().null())
            .col(text_of(Column::Url, 500).not_null())
            .col(types.bytes(Column::Payload).not_null())
            .col(types.hex_id(Column::Owner))
            .col(ColumnDef::new(Column::Attempts).integer().not_null().default(0))
            .col(types.instant(Column::CreatedAt).not_null())
            .col(types.instant(Column::NextAttemptAt).not_null())
            .col(ColumnDef::new(Column::LastError).text().null())
            .col(ColumnDef::new(Column::RecentAttempts).text().null())
            .primary_key(Index::create().col(Column::InboxId).col(Column::FlowId).col(Column::InboxOffset));
    });
    let index = Index::create()
        .name(INDEX)
        .table(outbox::Entity)
        .col(Column::Owner)
        .col(Column::FlowId)
        .col(Column::MessageId)
        .take();
    definition.index = Some((INDEX, index));
    definition
}

fn outbox_owners_table(types: Types) -> TableDefinition {
    use outbox_owners::Column;
    types.table("outbox_owners", |table| {
        table
            .col(types.hex_id(Column::Owner).primary_key())
            .col(types.instant(Column::LeaseUntil).not_null());
    })
}

fn flow_revision_table(types: Types) -> TableDefinition {
    use flow_revision::Column;
    types.table("flow_revision", |table| {
        table
            .col(ColumnDef::new(Column::Id).big_integer().not_null().primary_key())
            .col(ColumnDef::new(Column::Revision).big_integer().not_null());
    })
}

fn edit_history_table(types: Types) -> TableDefinition {
    use edit_history::Column;
    const INDEX: &str = "edit_history_of_row";
    let mut definition = types.table("edit_history", |table| {
        table
            .col(key(Column::Id))
            .col(types.instant(Column::EditedAt).not_null())
            .col(text_of(Column::EditedBy, 255).not_null())
            .col(text_of(Column::Kind, 10).not_null())
            .col(text_of(Column::Name, 255).not_null())
            .col(text_of(Column::Changed, 255).not_null())
            .col(types.long_text(Column::OldRow).null())
            .col(types.long_text(Column::NewRow).null())
            .col(ColumnDef::new(Column::CountsFrom).big_integer().null());
    });
    let index = Index::create()
        .name(INDEX)
        .table(edit_history::Entity)
        .col(Column::Kind)
        .col(Column::Name)
        .col(Column::Id)
        .take();
    definition.index = Some((INDEX, index));
    definition
}

fn outbox_pauses_table(types: Types) -> TableDefinition {
    use outbox_pauses::Column;
    types.table("outbox_pauses", |table| {
        table
            .col(ColumnDef::new(Column::FlowId).big_integer().not_null().primary_key())
            .col(types.instant(Column::PausedAt).not_null())
            .col(types.instant(Column::ResumedAt).null());
    })
}

fn dead_letters_table(types: Types) -> TableDefinition {
    use dead_letters::Column;
    const INDEX: &str = "dead_letters_of_flow";
    let mut definition = types.table("dead_letters", |table| {
        table
            .col(key(Column::Id))
            .col(types.instant(Column::OccurredAt).not_null())
            .col(types.instant(Column::ReceivedAt).not_null())
            .col(types.hex_id(Column::InboxId))
            .col(ColumnDef::new(Column::InboxOffset).big_integer().not_null())
            .col(ColumnDef::new(Column::Topic).text().not_null())
            .col(types.bytes(Column::Payload).not_null())
            .col(ColumnDef::new(Column::PayloadBytes).big_integer().not_null())
            .col(types.digits(Column::PayloadSha256, 64).null())
            .col(ColumnDef::new(Column::FlowId).big_integer().null())
            .col(text_of(Column::FlowCode, 100).null())
            .col(ColumnDef::new(Column::MessageId).big_integer().null())
            .col(text_of(Column::Reason, 64).not_null())
            .col(ColumnDef::new(Column::Detail).text().null())
            .col(ColumnDef::new(Column::RecentAttempts).text().null());
    });
    let index =
        Index::create().name(INDEX).table(dead_letters::Entity).col(Column::FlowCode).col(Column::Id).take();
    definition.index = Some((INDEX, index));
    definition
}

fn message_keys_table(types: Types) -> TableDefinition {
    use message_keys::Column;
    const INDEX: &str = "message_keys_by_age";
    let mut definition = types.table("message_keys", |table| {
        table
            .col(ColumnDef::new(Column::FlowId).big_integer().not_null())
            .col(ColumnDef::new(Column::KeyHash).binary_len(16).not_null())
            .col(ColumnDef::new(Column::MessageId).big_integer().not_null())
            .col(types.instant(Column::ReceivedAt).not_null())
            .col(types.instant(Column::WrittenAt).not_null())
            .primary_key(Index::create().col(Column::FlowId).col(Column::KeyHash));
        if types.backend == DbBackend::Sqlite {
            // The key is most of the row, and SQLite would otherwise store it twice.
            table.extra("WITHOUT ROWID");
        }
    });
    let index = Index::create().name(INDEX).table(message_keys::Entity).col(Column::WrittenAt).take();
    definition.index = Some((INDEX, index));
    definition
}

fn gateway_members_table(types: Types) -> TableDefinition {
    use gateway_members::Column;
    types.table("gateway_members", |table| {
        table
            .col(types.hex_id(Column::InboxId).primary_key())
            .col(text_of(Column::ClientId, 255).not_null())
            .col(text_of(Column::SharedGroup, 255).null())
            .col(ColumnDef::new(Column::ShardIndex).integer().null())
            .col(ColumnDef::new(Column::ShardCount).integer().null())
            .col(types.instant(Column::SubscribedAt).null())
            .col(types.instant(Column::HandingOverSince).null())
            .col(types.instant(Column::SeenAt).not_null());
    })
}

fn gateway_starts_table(types: Types) -> TableDefinition {
    use gateway_starts::Column;
    types.table("gateway_starts", |table| {
        table
            .col(types.hex_id(Column::InboxId))
            .col(types.hex_id(Column::StartId))
            .col(ColumnDef::new(Column::Generation).big_integer().not_null())
            .col(text_of(Column::ClientId, 255).not_null())
            .col(ColumnDef::new(Column::Location).text().not_null())
            .col(text_of(Column::Place, 255).not_null())
            .col(types.digits(Column::ParentId, 32).null())
            .col(ColumnDef::new(Column::Base).big_integer().not_null())
            .col(ColumnDef::new(Column::LogEnd).big_integer().not_null())
            .col(text_of(Column::State, 10).not_null())
            .col(ColumnDef::new(Column::Beats).big_integer().not_null().default(0))
            .col(types.instant(Column::StartedAt).not_null())
            .col(types.instant(Column::SeenAt).not_null())
            .col(ColumnDef::new(Column::ResumeAt).text().null())
            .primary_key(Index::create().col(Column::InboxId).col(Column::StartId));
    })
}

fn database_identity_table(types: Types) -> TableDefinition {
    use database_identity::Column;
    types.table("database_identity", |table| {
        table
            .col(ColumnDef::new(Column::Id).big_integer().not_null().primary_key())
            .col(types.hex_id(Column::DatabaseId));
    })
}

fn api_tokens_table(types: Types) -> TableDefinition {
    use api_tokens::Column;
    types.table("api_tokens", |table| {
        table
            .col(text_of(Column::Name, 64).not_null().primary_key())
            .col(types.digits(Column::TokenHash, 64).not_null())
            .col(text_of(Column::Scope, 10).not_null())
            .col(types.instant(Column::CreatedAt).not_null())
            .col(types.instant(Column::ExpiresAt).null());
    })
}

fn flow_fields_table(types: Types) -> TableDefinition {
    use flow_fields::Column;
    const INDEX: &str = "flow_fields_by_changes";
    let mut definition = types.table("flow_fields", |table| {
        table
            .col(ColumnDef::new(Column::FlowId).big_integer().not_null().primary_key())
            .col(ColumnDef::new(Column::Changes).big_integer().not_null())
            .col(types.long_text(Column::Fields).not_null());
    });
    // The rows are long, and few have changes.
    let index = Index::create().name(INDEX).table(flow_fields::Entity).col(Column::Changes).take();
    definition.index = Some((INDEX, index));
    definition
}

/// A key assigned by the database, which never assigns that of a deleted row again.
fn key(name: impl Iden + 'static) -> ColumnDef {
    ColumnDef::new(name).big_integer().not_null().primary_key().auto_increment().take()
}

/// Column types that differ between databases.
#[derive(Clone, Copy)]
struct Types {
    backend: DbBackend,
}

impl Types {
    /// Begins a table, with the options of its database.
    fn table(self, name: &'static str, columns: impl FnOnce(&mut TableCreateStatement)) -> TableDefinition {
        let mut create = Table::create();
        create.table(name.into_iden());
        columns(&mut create);
        if self.backend == DbBackend::MySql {
            // Row locks need InnoDB, and payloads hold any character, whatever the server's defaults.
            create.engine("InnoDB").character_set("utf8mb4");
        }
        TableDefinition { table: name, create, index: None }
    }

    /// A time in microseconds.
    fn instant(self, name: impl Iden + 'static) -> ColumnDef {
        let precise = match self.backend {
            DbBackend::MySql => "DATETIME(6)",
            DbBackend::Postgres => "TIMESTAMP WITHOUT TIME ZONE",
            _ => "DATETIME",
        };
        ColumnDef::new(name).custom(precise).take()
    }

    /// A time as `SQLAlchemy` declares one: on `MySQL` in whole seconds.
    fn second(self, name: impl Iden + 'static) -> ColumnDef {
        let plain = match self.backend {
            DbBackend::Postgres => "TIMESTAMP WITHOUT TIME ZONE",
            _ => "DATETIME",
        };
        ColumnDef::new(name).custom(plain).take()
    }

    /// 128 bits as 32 hexadecimal digits.
    fn hex_id(self, name: impl Iden + 'static) -> ColumnDef {
        self.digits(name, 32).not_null().take()
    }

    /// A text of fixed length. On `PostgreSQL` a comparison of `CHAR` with a text uses no index, so the type differs
    /// there.
    fn digits(self, name: impl Iden + 'static, count: u32) -> ColumnDef {
        let mut column = ColumnDef::new(name);
        match self.backend {
            DbBackend::Postgres => column.string_len(count),
            _ => column.char_len(count),
        };
        column
    }

    /// A text without a limit in practice: `TEXT` of `MySQL` ends at 64 KiB.
    fn long_text(self, name: impl Iden + 'static) -> ColumnDef {
        let long = match self.backend {
            DbBackend::MySql => "LONGTEXT",
            _ => "TEXT",
        };
        ColumnDef::new(name).custom(long).take()
    }

    /// Bytes, up to the largest payload.
    fn bytes(self, name: impl Iden + 'static) -> ColumnDef {
        let long = match self.backend {
            DbBackend::MySql => "LONGBLOB",
            DbBackend::Postgres => "BYTEA",
            _ => "BLOB",
        };
        ColumnDef::new(name).custom(long).take()
    }
}

/// Text of at most `characters`.
fn text_of(name: impl Iden + 'static, characters: u32) -> ColumnDef {
    ColumnDef::new(name).string_len(characters).take()
}
