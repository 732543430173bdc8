//! Clients that mean harm, against the real process: each ends in the way that is documented, costs no
//! more than its bound, and leaves nothing behind. A pair of bystanders exchanges messages all the
//! time; each of theirs must arrive, in order, while the attack lasts.
//!
//! How long the bystanders wait is reported, as a ratio of before and during, and not held to a bound:
//! the machine is shared with the attackers. To measure it, `MURING_E2E_BYSTANDERS` names a program that is
//! run with the number of their thread and may set it apart; more is exchanged then. With `MURING_E2E_APART`
//! the bystanders have a broker of their own, so that what they notice is the attackers' use of the machine
//! and nothing else. Attacks run at a tenth of their size or less unless `CI=true` or `MURING_E2E_SLOW` is
//! set.

mod connects;
mod floods;
mod packets;
mod siege;
mod subscriptions;
mod topics;
mod windows;

/// One test per shard count for each scenario `fn(u8)`.
macro_rules! besieged {
    ($($scenario:ident),* $(,)?) => {$(
        mod $scenario {
            #[test]
            fn shards_1() {
                if crate::hostile::applies() {
                    super::$scenario(1);
                }
            }

            #[test]
            fn shards_2() {
                if crate::hostile::applies() {
                    super::$scenario(2);
                }
            }

            #[test]
            fn shards_8() {
                if crate::hostile::applies() {
                    super::$scenario(8);
                }
            }
        }
    )*};
}

use besieged;

/// Bounds and counters are muring's own.
fn applies() -> bool {
    let is_foreign = std::env::var("MURING_E2E_BROKER").is_ok_and(|broker| broker == "mosquitto");
    if is_foreign {
        eprintln!("not run: mosquitto is not held to muring's bounds");
    }
    !is_foreign
}

/// How many of something that is there for what is measured: as many as it takes, or enough for a look.
fn measured(full: usize, otherwise: usize) -> usize {
    if std::env::var_os("MURING_E2E_BYSTANDERS").is_some() { full } else { otherwise }
}

/// How many of something: the size in full, or a share of it.
fn sized(full: usize, quick: usize) -> usize {
    if crate::load::is_slow_run() { full } else { quick }
}
