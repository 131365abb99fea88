use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use tempfile::TempDir;
use tokio::sync::watch;

use super::*;
use crate::clock::Clock;
use crate::config::{Config, Environment, Secret};
use crate::store::{KeyFile, sealed_with};

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn lms() -> Address {
    address("lms@contoso.com")
}

fn sign_in(account: &Address, token: &str) -> StoredSignIn {
    StoredSignIn {
        account: account.clone(),
        current: Secret::new(token),
        previous: Some(Secret::new(format!("before {token}"))),
        signed_in_as: None,
        since: now(),
        refreshed_at: now(),
        refresh_life: None,
        access: Some(StoredAccess {
            token: Secret::new(format!("access beside {token}")),
            received_at: now(),
            life: Duration::from_hours(1),
        }),
    }
}

/// A data folder that may be opened again and again.
struct Folder {
    folder: TempDir,
    store: Store,
}

impl Folder {
    fn new() -> Self {
        Self { folder: TempDir::new().unwrap(), store: Store::in_memory(None).unwrap() }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    async fn try_open(&self, key: &str, environment: &Environment) -> anyhow::Result<VaultShelf> {
        let text = format!(
            "hostname = \"relay.test\"\ndata_dir = {:?}\n{key}\n[[account]]\nmailbox = \"lms@contoso.com\"\nprovider = \"custom\"\n\
             client_id = \"relay\"\ntoken_url = \"http://127.0.0.1/token\"\nsmtp = \"localhost:587\"\n",
            self.path()
        );
        let config = Config::from_text(&text, "relay.toml", &Environment::default()).unwrap();
        let source = KeySource::of(&config, environment);
        let (_sender, config) = watch::channel(Arc::new(config));
        let identity = Identity::establish(self.store.clone(), config, Clock::manual(now()), None).await.unwrap();
        VaultShelf::open(self.store.clone(), source, identity).await
    }

    async fn open_with(&self, key: &str, environment: &Environment) -> VaultShelf {
        self.try_open(key, environment).await.unwrap()
    }

    async fn open(&self) -> VaultShelf {
        self.open_with("", &Environment::default()).await
    }

    /// With `key = { file = … }`, which holds this.
    async fn open_file(&self, text: &str) -> VaultShelf {
        let file = self.path().join("configured");
        std::fs::write(&file, text).unwrap();
        self.open_with(&format!("key = {{ file = {file:?} }}"), &Environment::default()).await
    }

    fn key_file(&self) -> KeyFile {
        KeyFile::of(self.path())
    }

    /// The keys that anything at rest is sealed with.
    async fn sealed_with(&self) -> Vec<KeyId> {
        let mut keys = Vec::new();
        for mut row in self.store.sign_ins().await.unwrap() {
            keys.extend(row.sealed_mut().map(|(_, sealed)| sealed_with(sealed).unwrap()));
        }
        keys.dedup();
        keys
    }

    async fn journal(&self) -> Vec<String> {
        self.store.recent_journal(10).await.unwrap().into_iter().map(|entry| entry.text).collect()
    }
}

async fn token(shelf: &VaultShelf, account: &Address) -> Result<String, ShelfError> {
    let loaded = shelf.load(account).await?.unwrap();
    assert_eq!(loaded.previous.unwrap().expose(), format!("before {}", loaded.current.expose()));
    Ok(loaded.current.expose().to_owned())
}

fn hex(octet: u8) -> String {
    format!("{octet:02x}").repeat(32)
}

fn id(octet: u8) -> KeyId {
    Key::read_all(&[octet; 32]).unwrap()[0].id()
}

#[tokio::test]
async fn the_key_comes_from_wherever_the_configuration_says() {
    let folder = Folder::new();
    let file = folder.path().join("seven");
    std::fs::write(&file, format!("{}\n", hex(7))).unwrap();
    let environment = Environment::from([
        ("RELAY_KEY", hex(7).into()),
        ("CREDENTIALS_DIRECTORY", folder.path().as_os_str().to_owned()),
    ]);
    let first = folder.open_with(&format!("key = \"{}\"", hex(7)), &environment).await;
    first.save(sign_in(&lms(), "token")).await.unwrap();
    for key in [
        format!("key = {{ file = {file:?} }}"),
        "key = { env = \"RELAY_KEY\" }".to_owned(),
        "key = { credential = \"seven\" }".to_owned(),
        format!("key = {{ command = [\"/bin/cat\", {file:?}] }}"),
    ] {
        let shelf = folder.open_with(&key, &environment).await;
        assert_eq!(shelf.key().await, Some(id(7)), "{key}");
        assert_eq!(token(&shelf, &lms()).await.unwrap(), "token", "{key}");
    }
    assert!(!folder.key_file().path().exists(), "none was made");
}

#[tokio::test]
async fn the_first_start_makes_a_key_that_the_next_one_finds() {
    let folder = Folder::new();
    VaultShelf::in_folder(folder.store.clone(), folder.path()).await.save(sign_in(&lms(), "token")).await.unwrap();
    let mode = std::fs::metadata(folder.key_file().path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(token(&folder.open().await, &lms()).await.unwrap(), "token");
}

#[tokio::test]
async fn a_key_that_cannot_be_had_stops_only_whoever_sets_the_relay_up() {
    let folder = Folder::new();
    let environment = Environment::default();
    for (key, said) in [
        ("key = { env = \"RELAY_KEY\" }", "RELAY_KEY is not set"),
        ("key = \"password\"", "the secret in the configuration holds no key"),
        ("key = { file = \"/nowhere/key\" }", "/nowhere/key cannot be read"),
    ] {
        let error = folder.try_open(key, &environment).await.err().unwrap();
        assert!(format!("{error:#}").contains(said), "{error:#}");
    }
    folder.open().await.save(sign_in(&lms(), "token")).await.unwrap();
    for (key, said) in
        [("key = { env = \"RELAY_KEY\" }", "RELAY_KEY is not set"), ("key = \"password\"", "holds no key")]
    {
        let shelf = folder.open_with(key, &environment).await;
        let Err(ShelfError::WrongKey(why)) = shelf.load(&lms()).await else { panic!("it was opened") };
        assert!(why.contains(said), "{why}");
        assert_eq!(shelf.load(&address("erp@contoso.com")).await, Ok(None));
        let error = shelf.ensure_key().await.unwrap_err();
        assert!(format!("{error:#}").contains(said), "nothing is asked of a person in vain: {error:#}");
        assert!(matches!(shelf.save(sign_in(&lms(), "new")).await, Err(ShelfError::Unavailable(_))));
    }
    assert_eq!(token(&folder.open().await, &lms()).await.unwrap(), "token", "and nothing has changed");
}

#[tokio::test]
async fn a_lost_key_that_is_put_back_needs_no_restart() {
    let folder = Folder::new();
    folder.open().await.save(sign_in(&lms(), "token")).await.unwrap();
    let (key, aside) = (folder.key_file().path().to_owned(), folder.path().join("aside"));
    std::fs::rename(&key, &aside).unwrap();
    let shelf = folder.open().await;
    let Err(ShelfError::WrongKey(why)) = shelf.load(&lms()).await else { panic!("it was opened") };
    assert!(why.contains("is missing, and the stored sign-ins are of no use without it"), "{why}");
    assert!(!key.exists(), "a lost key is not replaced in silence");
    std::fs::rename(&aside, &key).unwrap();
    assert_eq!(token(&shelf, &lms()).await.unwrap(), "token");
}

#[tokio::test]
async fn a_new_sign_in_makes_a_new_key_and_leaves_the_others_sealed() {
    let folder = Folder::new();
    let erp = address("erp@contoso.com");
    let before = folder.open().await;
    before.save(sign_in(&lms(), "lms")).await.unwrap();
    before.save(sign_in(&erp, "erp")).await.unwrap();
    let (key, aside) = (folder.key_file().path().to_owned(), folder.path().join("aside"));
    std::fs::rename(&key, &aside).unwrap();

    let shelf = folder.open().await;
    shelf.ensure_key().await.unwrap();
    shelf.save(sign_in(&lms(), "new")).await.unwrap();
    let again = folder.open().await;
    assert_eq!(token(&again, &lms()).await.unwrap(), "new");
    let Err(ShelfError::WrongKey(why)) = again.load(&erp).await else { panic!("it was opened") };
    let keys = (before.key().await.unwrap(), again.key().await.unwrap());
    assert_eq!(
        why,
        format!("the stored sign-in was sealed with the key {}, but the key at hand is {}", keys.0, keys.1)
    );

    // The old key turns up after all: behind the new one it opens the rest, and the next start seals all with the new one.
    let both = std::fs::read_to_string(&key).unwrap() + &std::fs::read_to_string(&aside).unwrap();
    std::fs::write(&key, both).unwrap();
    assert_eq!(token(&again, &erp).await.unwrap(), "erp");
    let shelf = folder.open().await;
    shelf.finish_rotation(now()).await;
    assert_eq!(folder.key_file().read().unwrap().len(), 1);
    assert_eq!(folder.sealed_with().await, [keys.1]);
    assert_eq!(token(&folder.open().await, &erp).await.unwrap(), "erp");
}

#[tokio::test]
async fn a_rotation_reaches_everything_that_is_sealed_and_the_old_key_is_gone() {
    let folder = Folder::new();
    let shelf = folder.open().await;
    let accounts = ["lms@contoso.com", "erp@contoso.com", "removed@contoso.com"].map(address);
    for account in &accounts {
        shelf.save(sign_in(account, account.as_str())).await.unwrap();
    }
    let old = shelf.key().await.unwrap();
    let batches = folder.store.batches();
    let rotated = shelf.rotate(now()).await.unwrap();
    assert_eq!(folder.store.batches(), batches + 1, "one transaction");
    let new = shelf.key().await.unwrap();
    assert_ne!(new, old);
    assert_eq!((rotated.key, rotated.sign_ins, rotated.left), (new.to_string(), 3, vec![]));
    assert_eq!(folder.sealed_with().await, [new]);
    assert!(folder.key_file().read().unwrap().iter().map(Key::id).eq([new]));
    assert_eq!(folder.journal().await, [format!("a new key: 3 sign-ins are sealed with {new} now, with {old} before")]);
    for shelf in [shelf, folder.open().await] {
        for account in &accounts {
            assert_eq!(token(&shelf, account).await.unwrap(), account.as_str());
        }
    }
}

#[tokio::test]
async fn what_no_key_opens_is_left_as_it_is() {
    let folder = Folder::new();
    let shelf = folder.open_file(&hex(1)).await;
    shelf.save(sign_in(&lms(), "token")).await.unwrap();
    let before = folder.store.sign_in(&lms()).await.unwrap();
    let other = folder.open().await;
    other.save(sign_in(&address("erp@contoso.com"), "erp")).await.unwrap();
    let rotated = other.rotate(now()).await.unwrap();
    assert_eq!((rotated.sign_ins, rotated.left), (1, vec!["lms@contoso.com".to_owned()]));
    assert_eq!(folder.store.sign_in(&lms()).await.unwrap(), before);
    assert_eq!(token(&folder.open_file(&hex(1)).await, &lms()).await.unwrap(), "token");
}

#[tokio::test]
async fn a_save_under_way_keeps_a_rotation_out_until_it_is_on_disk() {
    let folder = Folder::new();
    let shelf = folder.open().await;
    let mut waited = 0;
    for n in 0..10_000 {
        if waited == 3 {
            return;
        }
        // Whoever never lets go is made to wait by tokio itself, and that would show nothing.
        tokio::task::yield_now().await;
        let mut save = shelf.save(sign_in(&lms(), &n.to_string()));
        // Asked once, it has sealed and waits for the writer, unless that was quicker.
        if (&mut save).now_or_never().is_some() {
            continue;
        }
        waited += 1;
        assert!(shelf.shared.vault.try_write().is_err(), "the vault may change between the sealing and the commit");
        save.await.unwrap();
        assert!(shelf.shared.vault.try_write().is_ok());
    }
    panic!("the writer was quicker every time, so that nothing was shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_under_an_old_key_behind_a_rotation() {
    let folder = Folder::new();
    let shelf = folder.open().await;
    let accounts: Vec<Address> = (0..8).map(|n| address(&format!("a{n}@contoso.com"))).collect();
    let keepers: Vec<_> = accounts
        .iter()
        .map(|account| {
            let (shelf, account) = (shelf.clone(), account.clone());
            tokio::spawn(async move {
                for n in 0..60 {
                    shelf.save(sign_in(&account, &n.to_string())).await.unwrap();
                    assert_eq!(token(&shelf, &account).await.unwrap(), n.to_string());
                }
            })
        })
        .collect();
    while keepers.iter().any(|keeper| !keeper.is_finished()) {
        shelf.rotate(now()).await.unwrap();
        let key = shelf.key().await.unwrap();
        assert!(folder.key_file().read().unwrap().iter().map(Key::id).eq([key]));
    }
    for keeper in keepers {
        keeper.await.unwrap();
    }
    shelf.rotate(now()).await.unwrap();
    let again = folder.open().await;
    for account in &accounts {
        assert_eq!(token(&again, account).await.unwrap(), "59");
    }
}

#[tokio::test]
async fn an_old_key_that_is_copied_over_the_one_in_use_loses_neither() {
    let folder = Folder::new();
    let (lms, erp) = (lms(), address("erp@contoso.com"));
    folder.open().await.save(sign_in(&erp, "erp")).await.unwrap();
    let path = folder.key_file().path().to_owned();
    let old = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let shelf = folder.open().await;
    shelf.ensure_key().await.unwrap();
    shelf.save(sign_in(&lms, "lms")).await.unwrap();
    std::fs::write(&path, old).unwrap();
    assert_eq!(token(&shelf, &erp).await.unwrap(), "erp");
    let again = folder.open().await;
    assert_eq!(
        (token(&again, &lms).await.unwrap().as_str(), token(&again, &erp).await.unwrap().as_str()),
        ("lms", "erp")
    );
}

#[tokio::test]
async fn a_key_file_that_somebody_removed_is_made_good_by_a_rotation() {
    let folder = Folder::new();
    let shelf = folder.open().await;
    shelf.save(sign_in(&lms(), "token")).await.unwrap();
    std::fs::remove_file(folder.key_file().path()).unwrap();
    assert_eq!(shelf.rotate(now()).await.unwrap().sign_ins, 1);
    assert_eq!(token(&folder.open().await, &lms()).await.unwrap(), "token");

    std::fs::remove_file(folder.key_file().path()).unwrap();
    let without = folder.open().await;
    let error = without.rotate(now()).await.unwrap_err().to_string();
    assert!(error.contains("is missing"), "{error}");
}

#[tokio::test]
async fn a_rotation_that_is_cut_off_leaves_every_key_on_disk_even_if_the_file_was_gone() {
    let folder = Folder::new();
    let shelf = folder.open().await;
    shelf.save(sign_in(&lms(), "token")).await.unwrap();
    let in_use = shelf.key().await.unwrap();
    // Nothing can be written any more.
    folder.store.clone().close().await;
    let path = folder.key_file().path().to_owned();
    std::fs::remove_file(&path).unwrap();
    for was_replaced in [false, true] {
        if was_replaced {
            std::fs::write(&path, hex(9)).unwrap();
        }
        shelf.rotate(now()).await.unwrap_err();
        let on_disk: Vec<KeyId> = folder.key_file().read().unwrap().iter().map(Key::id).collect();
        assert!(on_disk.contains(&in_use), "{on_disk:?}");
        assert_eq!(on_disk.contains(&id(9)), was_replaced);
    }
}

#[tokio::test]
async fn a_configured_key_is_replaced_in_three_steps_and_a_restart_between_them_loses_nothing() {
    let folder = Folder::new();
    let shelf = folder.open_file(&hex(1)).await;
    shelf.save(sign_in(&lms(), "token")).await.unwrap();
    let error = shelf.rotate(now()).await.unwrap_err().to_string();
    let file = folder.path().join("configured");
    assert!(error.starts_with(&format!("nothing was changed: {} holds one key", file.display())), "{error}");
    assert!(error.contains("2. xoauth2-relay rotate-key"), "{error}");

    std::fs::write(&file, hex(2)).unwrap();
    let error = shelf.rotate(now()).await.unwrap_err().to_string();
    assert!(
        error.contains(&format!("does not hold the key {} any more, with which lms@contoso.com", id(1))),
        "{error}"
    );
    assert_eq!(folder.sealed_with().await, [id(1)]);

    let both = format!("{}\n{}\n", hex(2), hex(1));
    std::fs::write(&file, &both).unwrap();
    let rotated = shelf.rotate(now()).await.unwrap();
    assert!(rotated.next.contains("leave nothing but the first one"), "{}", rotated.next);
    assert_eq!(folder.sealed_with().await, [id(2)]);
    for text in [&both, &hex(2)] {
        assert_eq!(token(&folder.open_file(text).await, &lms()).await.unwrap(), "token");
    }
    // Given once more, it says the same.
    assert!(shelf.rotate(now()).await.unwrap_err().to_string().contains("holds one key"));
    std::fs::write(&file, &both).unwrap();
    assert_eq!(shelf.rotate(now()).await.unwrap().next, rotated.next);
}

#[tokio::test]
async fn a_key_that_is_read_at_the_start_alone_is_replaced_by_a_restart() {
    let folder = Folder::new();
    let environment = |text: String| Environment::from([("RELAY_KEY", text)]);
    let key = "key = { env = \"RELAY_KEY\" }";
    let shelf = folder.open_with(key, &environment(hex(1))).await;
    shelf.save(sign_in(&lms(), "token")).await.unwrap();
    let error = shelf.rotate(now()).await.unwrap_err().to_string();
    assert!(error.contains("the environment variable RELAY_KEY holds one key"), "{error}");
    assert!(error.contains("2. restart the relay, then: xoauth2-relay rotate-key"), "{error}");

    let shelf = folder.open_with(key, &environment(format!("{} {}", hex(2), hex(1)))).await;
    shelf.finish_rotation(now()).await;
    assert_eq!(folder.sealed_with().await, [id(2)]);
    let rotated = shelf.rotate(now()).await.unwrap();
    assert_eq!(rotated.sign_ins, 1);
    assert!(rotated.next.contains("The next restart takes note"), "{}", rotated.next);
    assert_eq!(token(&folder.open_with(key, &environment(hex(2))).await, &lms()).await.unwrap(), "token");
}

#[test]
fn whoever_may_see_the_key_is_told_with_the_remedy() {
    // The rule is tested beside `seen_by_others`; here, that the file of the configuration is asked about.
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, hex(1)).unwrap();
    let warnings = |mode: u32| {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let config = crate::config::testing::config_with(&format!("key = {{ file = {file:?} }}"));
        config.warnings.iter().map(ToString::to_string).filter(|warning| warning.contains("chmod")).collect::<Vec<_>>()
    };
    assert_eq!(warnings(0o640), [""; 0]);
    let told = warnings(0o644);
    if crate::config::seen_by_others(&file) {
        assert!(
            told[0].ends_with(&format!("can be read by every user of this machine: chmod o= {}", file.display())),
            "{told:?}"
        );
    }
}
