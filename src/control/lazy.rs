//! The use cases of a running gateway, which connect to the database when they are needed.

use tokio::sync::OnceCell;

use super::{Control, ControlError};
use crate::domain::edit_history::EditOrigin;
use crate::settings::Settings;

/// Connects at the first use. A failure is tried again at the next one.
#[derive(Debug)]
pub struct LazyControl {
    settings: Settings,
    control: OnceCell<Control>,
}

impl LazyControl {
    /// Connects to nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings, control: OnceCell::new() }
    }

    /// The settings of the gateway.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The use cases; [`Control::acting_as`] says who edits. Their connections belong to the runtime of the first caller.
    pub async fn get(&self) -> Result<&Control, ControlError> {
        let unknown = || EditOrigin::Token("unknown".to_owned());
        self.control.get_or_try_init(|| Control::connect(self.settings.clone(), unknown())).await
    }
}
