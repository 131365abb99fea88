//! What an answer makes of the refresh tokens.

use jiff::Timestamp;

use super::Which;
use crate::signin::answer::Tokens;
use crate::signin::claims::Claims;
use crate::signin::shelf::StoredSignIn;

/// The sign-in after this answer, and whether the token on the shelf is no longer the one to use.
pub(super) fn successor(stored: &StoredSignIn, which: Which, tokens: &Tokens, now: Timestamp) -> (StoredSignIn, bool) {
    let used = match (which, &stored.previous) {
        (Which::Previous, Some(previous)) => previous,
        _ => &stored.current,
    };
    let current = tokens.refresh.as_ref().unwrap_or(used);
    let rotated = *current != stored.current;
    let previous = if current != used {
        // The one just used works for certain until its successor has.
        Some(used.clone())
    } else if rotated {
        // The predecessor stepped back in. Nothing is thrown away on a refusal, so the refused one is kept behind it.
        Some(stored.current.clone())
    } else {
        None
    };
    let claims = Claims::decode(tokens.access.expose());
    let person = claims.as_ref().and_then(Claims::person).map(str::to_owned);
    let next = StoredSignIn {
        account: stored.account.clone(),
        current: current.clone(),
        previous,
        signed_in_as: person.or_else(|| stored.signed_in_as.clone()),
        since: stored.since,
        refreshed_at: now,
        refresh_life: tokens.refresh_life.or_else(|| stored.refresh_life.filter(|_| tokens.refresh.is_none())),
        access: None,
    };
    (next, rotated)
}
