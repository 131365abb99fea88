//! A store in the place of the real one.

use super::*;

/// What a store with these messages, in the order in which they are due, answers.
pub(in crate::schedule) fn answer(load: &Load, messages: &[Waiting]) -> Vec<FlowHead> {
    let mut flows: BTreeMap<Flow, Vec<Waiting>> = BTreeMap::new();
    for waiting in messages {
        flows.entry(waiting.flow.clone()).or_default().push(waiting.clone());
    }
    let limit = load.limit(flows.len()) as usize;
    let wanted = flows.into_iter().filter(|(flow, _)| load.flows.as_ref().is_none_or(|flows| flows.contains(flow)));
    wanted
        .map(|(flow, mut messages)| {
            let is_cut = messages.len() >= limit;
            messages.truncate(limit);
            FlowHead { flow, messages, is_cut }
        })
        .collect()
}
