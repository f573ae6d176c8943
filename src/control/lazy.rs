//! The use cases of a running gateway, which connect to the database when they are needed.
//!
//! Their connections follow the other threads to another server, and are renewed after an error.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::{Control, ControlError};
use crate::domain::edit_history::EditOrigin;
use crate::settings::Settings;
use crate::store::{Recovery, answer_timeout, with_timeout};

/// Connects at the first use. A failure is tried again at the next one.
#[derive(Debug)]
pub struct LazyControl {
    settings: Settings,
    control: Mutex<Option<Arc<Control>>>,
}

impl LazyControl {
    /// Connects to nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings, control: Mutex::default() }
    }

    /// The settings of the gateway.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The use cases, at the server that all threads use; [`Control::acting_as`] says who edits. Their connections
    /// belong to the runtime of the caller. Keep them for one request, and call [`Self::recover`] after an error.
    ///
    /// # Errors
    /// The database cannot be reached, or lacks tables or columns.
    pub async fn get(&self) -> Result<Arc<Control>, ControlError> {
        let mut present = self.control.lock().await;
        let control = match present.take() {
            Some(control) if control.database.is_superseded() => {
                Arc::new(control.with_database(control.database.anew()))
            }
            Some(control) => control,
            None => Arc::new(self.connect().await?),
        };
        Ok(Arc::clone(present.insert(control)))
    }

    /// Replaces the connections after `error` of `used`, if that may help. The next [`Self::get`] returns the new ones.
    /// Other errors than those of the database change nothing.
    ///
    /// # Errors
    /// None of several servers can be used.
    pub async fn recover(&self, used: &Arc<Control>, error: &ControlError) -> Result<(), ControlError> {
        let ControlError::Store(error) = error else { return Ok(()) };
        let mut present = self.control.lock().await;
        // Another request may have replaced the connections meanwhile.
        let Some(control) = present.as_mut().filter(|control| Arc::ptr_eq(control, used)) else {
            return Ok(());
        };
        let mut database = control.database.clone();
        let recovered = database.recover(error).await;
        if !matches!(recovered, Ok(Recovery::Unchanged)) {
            *control = Arc::new(control.with_database(database));
        }
        recovered?;
        Ok(())
    }

    async fn connect(&self) -> Result<Control, ControlError> {
        let unknown = EditOrigin::Token("unknown".to_owned());
        with_timeout(answer_timeout(), Control::connect(self.settings.clone(), unknown)).await
    }
}
