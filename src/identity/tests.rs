use jiff::Timestamp;

use super::*;
use crate::config::testing::config_with;
use crate::store::SealedSignIn;

const LMS: &str = "lms@contoso.com";
const ERP: &str = "erp@contoso.com";

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn clock() -> Clock {
    Clock::manual(Timestamp::from_second(1_800_000_000).unwrap())
}

fn config(instance: Option<&str>, with_erp: bool) -> Arc<Config> {
    let erp = "[[account]]\nmailbox = \"erp@contoso.com\"\nprovider = \"custom\"\nclient_id = \"relay\"\n\
        token_url = \"http://127.0.0.1/token\"\nsmtp = \"localhost:587\"\n";
    let name = instance.map(|name| format!("instance = {name:?}\n")).unwrap_or_default();
    Arc::new(config_with(&format!("{name}{}", if with_erp { erp } else { "" })))
}

/// A start with both accounts.
async fn start(store: &Store, instance: Option<&str>) -> Identity {
    start_with(store, config(instance, true), None).await
}

async fn start_with(store: &Store, config: Arc<Config>, machine: Option<&str>) -> Identity {
    let (_sender, config) = watch::channel(config);
    let identity = Identity::establish(store.clone(), config, clock(), machine.map(str::to_owned)).await.unwrap();
    let (_, changes) = identity.correct_holds(store.holds().await.unwrap());
    for change in changes {
        store.commit(change).await.unwrap();
    }
    identity
}

async fn held(store: &Store) -> Vec<(String, HoldCause)> {
    let holds = store.holds().await.unwrap();
    holds.into_iter().map(|hold| (hold.account.to_string(), hold.cause)).collect()
}

async fn facts(store: &Store, name: &str) -> Vec<(String, String)> {
    let facts = store.facts().await.unwrap().into_iter().filter(|fact| fact.name == name);
    facts
        .map(|fact| (fact.account.map(|account| account.to_string()).unwrap_or_default(), fact.value.unwrap()))
        .collect()
}

fn clones(accounts: &[&str]) -> Vec<(String, HoldCause)> {
    accounts.iter().map(|account| ((*account).to_owned(), HoldCause::Clone)).collect()
}

fn named(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(account, name)| ((*account).to_owned(), (*name).to_owned())).collect()
}

#[tokio::test]
async fn the_first_name_is_written_down_and_the_same_one_is_never_punished() {
    let store = Store::in_memory(None).unwrap();
    start(&store, None).await;
    assert_eq!(facts(&store, INSTANCE).await, []);
    for _ in 0..2 {
        let identity = start(&store, Some("production")).await;
        assert_eq!(identity.foreign(&address(LMS)), None);
        assert_eq!(facts(&store, INSTANCE).await, named(&[("", "production")]));
    }
    let identity = start(&store, None).await;
    assert_eq!(identity.foreign(&address(LMS)), None, "to take the name away is no crime");
    assert_eq!(held(&store).await, []);
    assert_eq!(facts(&store, INSTANCE).await, named(&[("", "production")]), "and nothing is forgotten");
}

#[tokio::test]
async fn a_copy_is_held_account_by_account_and_takes_on_its_name_at_last() {
    for (original, copy) in [("production", "staging"), ("staging", "production")] {
        let store = Store::in_memory(None).unwrap();
        start(&store, Some(original)).await;
        let identity = start(&store, Some(copy)).await;
        assert_eq!(held(&store).await, clones(&[ERP, LMS]));
        let said = identity.foreign(&address(LMS)).unwrap().to_string();
        assert_eq!(said, format!("this account belongs to the instance \"{original}\", and this relay is \"{copy}\""));

        identity.claim(&address("LMS@contoso.com")).await.unwrap();
        assert_eq!(identity.foreign(&address(LMS)), None);
        assert!(identity.foreign(&address(ERP)).is_some());
        store.commit(released(LMS)).await.unwrap();
        let identity = start(&store, Some(copy)).await;
        assert_eq!(held(&store).await, clones(&[ERP]), "what was released stays so");
        assert_eq!(facts(&store, INSTANCE).await[0], (String::new(), original.to_owned()));

        identity.claim(&address(ERP)).await.unwrap();
        assert_eq!(facts(&store, INSTANCE).await, named(&[("", copy)]), "its name, and no marks any more");
        let identity = start(&store, Some(copy)).await;
        assert_eq!(identity.foreign(&address(ERP)), None);
        assert_eq!(held(&store).await, []);
        // The original, restored from a backup of the copy, is a copy itself.
        start(&store, Some(original)).await;
        assert_eq!(held(&store).await, clones(&[ERP, LMS]));
    }
}

fn released(account: &str) -> Change {
    Change::Release { account: address(account), at: clock().now(), why: "test".to_owned() }
}

#[tokio::test]
async fn a_name_that_was_a_mistake_leaves_nothing_behind() {
    let store = Store::in_memory(None).unwrap();
    start(&store, Some("production")).await;
    let manual = Hold { cause: HoldCause::Manual, error: None, ..sample_hold(ERP) };
    store.commit(Change::Hold(Box::new(manual))).await.unwrap();
    start(&store, Some("producton")).await;
    let expected = [(ERP.to_owned(), HoldCause::Manual), (LMS.to_owned(), HoldCause::Clone)];
    assert_eq!(held(&store).await, expected);
    let said = store.holds().await.unwrap()[0].error.clone().unwrap();
    assert!(said.contains("belongs to the instance \"production\""), "who releases it is told: {said}");
    start(&store, Some("production")).await;
    assert_eq!(store.holds().await.unwrap()[0].error, None);
    assert_eq!(held(&store).await, expected[..1], "what a person holds stays held");
}

fn sample_hold(account: &str) -> Hold {
    let foreign = Foreign { owner: "a".to_owned(), configured: None };
    super::hold(&address(account), &foreign, clock().now())
}

#[tokio::test]
async fn to_take_the_name_out_of_the_configuration_frees_no_copy() {
    let store = Store::in_memory(None).unwrap();
    start(&store, Some("production")).await;
    start(&store, Some("staging")).await;
    let identity = start(&store, None).await;
    assert!(identity.foreign(&address(LMS)).is_some());
    assert_eq!(held(&store).await, clones(&[ERP, LMS]));
    identity.claim(&address(LMS)).await.unwrap();
    store.commit(released(LMS)).await.unwrap();
    let identity = start(&store, None).await;
    assert_eq!(identity.foreign(&address(LMS)), None);
    assert_eq!(held(&store).await, clones(&[ERP]));
}

#[tokio::test]
async fn an_account_that_is_not_configured_stays_with_its_owner() {
    let store = Store::in_memory(None).unwrap();
    start(&store, Some("production")).await;
    let row = SealedSignIn {
        account: address(ERP),
        current: vec![1],
        previous: None,
        signed_in_as: None,
        since: clock().now(),
        refreshed_at: clock().now(),
        refresh_life: None,
        access: None,
    };
    store.commit(Change::SignIn(Box::new(row))).await.unwrap();
    let identity = start_with(&store, config(Some("staging"), false), None).await;
    identity.claim(&address(LMS)).await.unwrap();
    assert_eq!(facts(&store, INSTANCE).await, named(&[("", "staging"), (ERP, "production")]));
    let identity = start(&store, Some("staging")).await;
    assert_eq!(identity.foreign(&address(ERP)).unwrap().owner, "production");
    assert_eq!(identity.foreign(&address(LMS)), None);
}

#[tokio::test]
async fn another_machine_is_told_once_and_never_held() {
    let store = Store::in_memory(None).unwrap();
    for (machine, lines) in
        [(None, 0), (Some("a"), 0), (Some("a"), 0), (Some("b"), 1), (Some("b"), 1), (None, 1), (Some("a"), 2)]
    {
        let identity = start_with(&store, config(None, true), machine).await;
        assert_eq!(store.recent_journal(10).await.unwrap().len(), lines, "{machine:?}");
        assert_eq!(identity.foreign(&address(LMS)), None);
    }
    assert_eq!(held(&store).await, []);
    assert_eq!(facts(&store, MACHINE).await, named(&[("", "a")]));
}
