//! Rows that another client has locked.

use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use mqtt_gateway::settings::DatabaseSettings;
use mqtt_gateway::store::Database;
use sea_orm::ConnectionTrait;

/// Another session in the midst of a transaction, on a thread of its own.
pub(crate) struct Held {
    end: Sender<&'static str>,
    session: JoinHandle<()>,
}

impl Held {
    /// Returns when the statements are done.
    pub(crate) fn by(settings: DatabaseSettings, statements: Vec<String>) -> Self {
        let (end, ending) = channel();
        let (done, doing) = channel();
        let session = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let database = Database::connect(&settings, 1).await.unwrap();
                let transaction = database.begin().await.unwrap();
                for sql in statements {
                    transaction
                        .execute_unprepared(&sql)
                        .await
                        .unwrap_or_else(|error| panic!("{sql}: {error}"));
                }
                done.send(()).unwrap();
                // A failed test sends nothing.
                match ending.recv() {
                    Ok("commit") => transaction.commit().await.unwrap(),
                    _ => transaction.rollback().await.unwrap(),
                }
            });
        });
        doing.recv().unwrap();
        Self { end, session }
    }

    pub(crate) fn release(self) {
        self.end_with("rollback");
    }

    pub(crate) fn commit(self) {
        self.end_with("commit");
    }

    pub(crate) fn end_with(self, how: &'static str) {
        self.end.send(how).unwrap();
        self.session.join().unwrap();
    }
}
