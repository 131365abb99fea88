//! A new key for the stored sign-ins.

use super::{Ops, OpsError};
use crate::shelf::Rotated;

impl Ops {
    /// Seals every stored sign-in with a new key, in one transaction. Where the key is configured, it is read anew from there.
    pub async fn rotate_key(&self) -> Result<Rotated, OpsError> {
        self.shelf.rotate(self.clock.now()).await.map_err(|error| OpsError::Failed(error.to_string()))
    }
}
