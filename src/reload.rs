//! SIGHUP: reads the configuration and all files of it again, and tells the shards if they are in order.
//!
//! Everything is read and built here, on the main thread, before anything changes: a mistake leaves all as
//! it was. Clients that are connected keep their connections, unless the new rules do not let them in.

use std::fmt;
use std::sync::Arc;

use shards::ids::ShardId;

use crate::checks::Helpers;
use crate::config::{Config, ConfigError, Loaded};
use crate::reactor::{Order, Stations};
use crate::security::{self, Security};

/// Reads the configuration again, as at the start.
pub type Reload = Box<dyn Fn() -> Result<Loaded, ConfigError> + Send>;

/// The main thread's means to change the rules of a running broker.
pub(crate) struct Reloader {
    /// What counts now.
    pub(crate) config: Config,
    pub(crate) security: Security,
    pub(crate) reload: Option<Reload>,
    pub(crate) helpers: Helpers,
    pub(crate) stations: Arc<Stations>,
    pub(crate) shards: u8,
}

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader").field("shards", &self.shards).finish_non_exhaustive()
    }
}

impl Reloader {
    /// Reads everything and tells the shards; the log says how it went.
    pub(crate) fn run(&mut self) {
        let Some(reload) = &self.reload else {
            tracing::warn!("there is nothing to reload");
            return;
        };
        let loaded = match reload() {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::error!("not reloaded, all stays as it was: {error}");
                return;
            }
        };
        for name in security::fixed_differences(&self.config, &loaded.config) {
            tracing::warn!("{name}: changed, which takes effect with the next start");
        }
        let config = self.changed(loaded.config);
        let security = match Security::load(&config) {
            Ok(security) => security.following(&self.security),
            Err(error) => {
                tracing::error!("not reloaded, all stays as it was: {error}");
                return;
            }
        };
        for warning in loaded.warnings.iter().chain(&security.warnings) {
            tracing::warn!("{warning}");
        }
        self.tell(&security);
        tracing::info!(listeners = config.listeners.len(), "reloaded");
        self.config = config;
        self.security = security;
    }

    /// The configuration with what may change while it runs. Listeners stay what and where they are, by
    /// their positions.
    fn changed(&self, new: Config) -> Config {
        let mut config = self.config.clone();
        for (old, new) in config.listeners.iter_mut().zip(new.listeners) {
            if (old.kind, &old.place) == (new.kind, &new.place) {
                *old = new;
            }
        }
        config.auth = new.auth;
        config.acl = new.acl;
        config.admission = new.admission;
        config
    }

    fn tell(&self, security: &Security) {
        let admission = Arc::new(security.admission(self.shards));
        for shard in (0..self.shards).map(ShardId) {
            let authenticate = security.authenticate(shard, &self.helpers);
            let authorise = security.authorise();
            let tell = |order| self.stations.order(shard, order);
            tell(Order::Transports(security.transports.clone()));
            tell(Order::Admission(Arc::clone(&admission)));
            tell(Order::Rules { authenticate, authorise });
        }
    }
}
