//! What a shard waits for, in words: for whoever wants to know why nothing goes on.

use crate::conn::Conn;
use crate::conn::pause::PauseReason;
use crate::ids::{ConnId, SessionId};

use super::Shard;
use super::publish::Whose;

/// Something that goes on only when somebody else does something.
#[derive(Debug)]
pub struct Waiting {
    /// The connection that waits, or whose client is waited for, if it is one.
    pub conn: Option<ConnId>,
    pub what: String,
}

impl Shard {
    /// Everything that waits here: connections with their reasons, mail outside its ring, questions
    /// to other shards and to the store. Looks at every connection, so not for every turn.
    #[must_use]
    pub fn waiting(&self) -> Vec<Waiting> {
        let mut all = Vec::new();
        for conn in self.local.conns.iter().filter(|conn| conn.pauses.any()) {
            all.push(self.paused(conn));
        }
        for to in self.mail.others() {
            let staged = self.mail.staged_bytes(to);
            if staged > 0 {
                let what = format!("{staged} bytes for shard {} are outside the ring", to.0);
                all.push(Waiting { conn: None, what });
            }
        }
        for barrier in self.barriers.iter() {
            let what = format!("SUBSCRIBE waits for shards {:#b}", barrier.waiting);
            all.push(Waiting { conn: Some(barrier.conn), what });
        }
        for &session in self.questions.iter() {
            let what = "a question for retained messages is out".to_owned();
            all.push(Waiting { conn: self.conn_of(session), what });
        }
        for ask in &self.deferred_asks {
            all.push(Waiting { conn: None, what: format!("not answered yet: {ask:?}") });
        }
        for completion in self.completions.iter() {
            let conn = match completion.whose {
                Whose::Conn(conn) => Some(conn),
                Whose::Session(..) | Whose::Shard(..) => None,
            };
            all.push(Waiting { conn, what: format!("no outcome yet: {completion:?}") });
        }
        all
    }

    fn paused(&self, conn: &Conn) -> Waiting {
        let reasons: Vec<_> = PauseReason::ALL
            .into_iter()
            .filter(|reason| conn.pauses.has(*reason))
            .map(PauseReason::name)
            .collect();
        let session = conn.session().and_then(|session| self.local.sessions.get(session));
        let client = session.map_or("", |session| &session.client_id);
        let backlog = conn.backlog.rest().len();
        let what = format!(
            "{client:?} is paused: {}, {backlog} bytes wait, {} bytes are on their way out",
            reasons.join(", "),
            conn.out_bytes(),
        );
        Waiting { conn: Some(conn.id), what }
    }

    fn conn_of(&self, session: SessionId) -> Option<ConnId> {
        self.local.conns.iter().find(|conn| conn.session() == Some(session)).map(|conn| conn.id)
    }
}
