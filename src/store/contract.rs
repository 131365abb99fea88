//! What every engine has to do. An engine's own tests run this with `contract::suite!`.

pub mod acceptance;
pub mod accounts;
pub mod attempts;
pub mod ends;
pub mod notices;
pub mod orders;
pub mod views;

use std::any::Any;

use super::engine::{Committed, Opened, Reader};
use super::samples::{id, lms};
use super::*;

/// An engine with something that keeps it alive (its folder).
pub struct Subject {
    opened: Opened,
    _keep: Box<dyn Any>,
}

impl Subject {
    /// Tests this; `keep` lives as long.
    pub fn new(opened: Opened, keep: impl Any) -> Self {
        Self { opened, _keep: Box::new(keep) }
    }

    fn commit(&mut self, changes: &[Change]) -> Committed {
        self.opened.engine.commit(changes).unwrap()
    }

    fn read(&mut self) -> &mut dyn Reader {
        self.opened.readers[0].as_mut()
    }

    fn state(&mut self, n: u32) -> MessageState {
        self.read().message(id(n)).unwrap().unwrap().state
    }

    fn recipients(&mut self, n: u32) -> Vec<RecipientState> {
        self.read().message(id(n)).unwrap().unwrap().recipients.iter().map(|recipient| recipient.state).collect()
    }

    fn journal(&mut self, n: u32) -> Vec<String> {
        self.read().journal(id(n)).unwrap().into_iter().map(|entry| entry.text).collect()
    }

    /// How many are held, and how many of these because somebody ordered it.
    fn held(&mut self) -> (u64, u64) {
        let counts = self.read().counts().unwrap();
        let held = counts.iter().find(|count| count.state == MessageState::Held);
        held.map_or((0, 0), |count| (count.messages, count.by_order))
    }

    fn window(&mut self, limit: u32) -> Vec<QueueId> {
        self.windows(&lms(), limit).iter().map(|waiting| waiting.id).collect()
    }

    /// What waits in the queue of the account, flow by flow.
    fn windows(&mut self, account: &Address, limit: u32) -> Vec<Waiting> {
        let flows = self.read().flows(account).unwrap();
        flows.iter().flat_map(|flow| self.read().window(account, flow, limit).unwrap()).collect()
    }
}

/// Makes a test of each part of the contract; `$open` gives a new and empty [`Subject`].
macro_rules! suite {
    ($open:expr; $($subject:ident { $($name:ident)* })*) => {
        $($(#[test] fn $name() { crate::store::contract::$subject::$name(&mut $open) })*)*
    };
    ($open:expr) => {
        crate::store::contract::suite! { $open;
            acceptance {
                an_accepted_message_is_read_back_whole
                odd_values_are_read_back_as_they_were
                a_batch_is_committed_whole_or_not_at_all
                a_message_without_recipients_is_not_taken
            }
            attempts {
                a_finished_message_moves_to_the_archive
                an_accepted_recipient_stays_accepted
                pending_recipients_are_never_archived
                a_record_for_a_deleted_message_brings_nothing_back
                each_next_step_leads_to_its_state
            }
            orders {
                a_retry_begins_anew_and_keeps_what_was_accepted
                a_wake_makes_waiting_mail_due_and_forgets_no_try
                a_deleted_message_leaves_its_story
                a_moved_message_waits_for_the_other_account
                a_message_changes_its_lane_and_its_story_says_why
                what_a_budget_counts_waits_beside_the_rest
                a_held_message_is_released_by_a_person_alone
                what_is_given_up_while_it_is_tried_stays_a_dead_letter
                a_readdressed_recipient_waits_under_its_new_address
                what_cannot_be_readdressed_stays_as_it_is
            }
            views {
                the_window_is_ordered_and_bounded
                every_flow_has_a_window_of_its_own
                the_list_goes_on_from_an_id
                the_journals_show_their_own_lines_in_order
                messages_are_counted_by_account_state_and_flow
            }
            accounts {
                a_hold_is_journalled_once_and_released_once
                the_last_sign_in_counts
                sign_ins_are_sealed_anew_together_and_none_is_brought_back
                what_was_learnt_is_known_until_it_is_forgotten
                the_pace_is_remembered_by_login
            }
            notices {
                a_refusal_is_to_be_told_until_it_was_told_once
                a_notice_about_what_is_settled_meanwhile_is_not_written
                who_waits_long_is_warned_once
            }
            ends {
                the_old_is_forgotten_in_shares
                the_last_id_is_remembered_when_the_message_is_gone
                a_run_that_did_not_end_is_noticed
            }
        }
    };
}
pub(crate) use suite;
