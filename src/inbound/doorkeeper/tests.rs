use super::*;
use crate::registry::testing;

const MOODLE: &str = "[[app]]\nname = 'moodle'\npassword = 'a password of moodle'\n";
const PRINTERS: &str = "[[app]]\nname = 'printers'\nallow = ['10.0.0.0/8']\npassword = 'a password of printers'\n";

struct Door {
    keeper: Doorkeeper,
    config: watch::Sender<Arc<Config>>,
    stop: CancellationToken,
}

impl Door {
    fn with(text: &str) -> Self {
        let config = watch::Sender::new(Arc::new(testing::config_with(text)));
        let environment = Environment::from([("PASSWORD", "a password of the environment")]);
        let (keeper, reader) = Doorkeeper::new(config.subscribe(), environment);
        let stop = CancellationToken::new();
        tokio::spawn(reader.run(stop.clone()));
        Self { keeper, config, stop }
    }

    fn configure(&self, text: &str) {
        self.config.send_replace(Arc::new(testing::config_with(text)));
    }

    /// `in`, `out` or `unknown`.
    async fn says(&self, peer: &str, user: &str, password: &str) -> &'static str {
        let login = Login { user: user.to_owned(), password: Password::new(password.as_bytes()) };
        match self.keeper.check(peer.parse().unwrap(), login).await {
            Decision::In(name) => {
                assert_eq!(name, user);
                "in"
            }
            Decision::Out(delay) => {
                assert!(delay >= FIRST_DELAY, "wrong passwords are answered slowly");
                "out"
            }
            Decision::Unknown(_) => "unknown",
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test]
async fn an_app_comes_in_with_its_own_password_from_its_own_networks() {
    let door = Door::with(&format!("{MOODLE}{PRINTERS}[[app]]\nname = 'erp'\n"));
    for (peer, user, password, says) in [
        ("127.0.0.1", "moodle", "a password of moodle", "in"),
        ("127.0.0.1", "MOODLE@contoso.com", "a password of moodle", "in"),
        ("127.0.0.1", "moodle", "a password of printers", "out"),
        ("127.0.0.1", "moodle", "A password of moodle", "out"),
        ("127.0.0.1", "moodle", "", "out"),
        ("127.0.0.1", "", "a password of moodle", "out"),
        ("127.0.0.1", "erp", "", "out"),
        ("127.0.0.1", "nobody", "a password of moodle", "out"),
        ("127.0.0.1", "default", "a password of moodle", "out"),
        ("127.0.0.1", "printers", "a password of printers", "out"),
        ("10.1.2.3", "printers", "a password of printers", "in"),
    ] {
        assert_eq!(door.says(peer, user, password).await, says, "{peer} {user} {password}");
    }
}

#[tokio::test]
async fn a_login_that_was_right_costs_no_second_comparison() {
    let door = Door::with(MOODLE);
    assert_eq!(door.says("127.0.0.1", "moodle", "a password of moodle").await, "in");
    // From now on nothing can be compared.
    door.keeper.turns.close();
    assert_eq!(door.says("127.0.0.1", "Moodle@x", "a password of moodle").await, "in");
    assert_eq!(door.says("127.0.0.1", "moodle", "another password").await, "unknown");
}

#[tokio::test]
async fn a_new_configuration_takes_effect_with_the_next_login() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "the first password\n").unwrap();
    let text = format!("[[app]]\nname = 'moodle'\npassword = {{ file = '{}' }}\n", file.display());
    let door = Door::with(&text);
    assert_eq!(door.says("::1", "moodle", "the first password").await, "in");

    std::fs::write(&file, "the second password\n").unwrap();
    assert_eq!(door.says("::1", "moodle", "the first password").await, "in", "nobody has asked for it to be read");
    door.configure(&text);
    assert_eq!(door.says("::1", "moodle", "the first password").await, "out", "what was remembered is forgotten");
    assert_eq!(door.says("::1", "moodle", "the second password").await, "in");

    door.configure(&format!("[[app]]\nname = 'erp'\npassword = {{ file = '{}' }}\n", file.display()));
    assert_eq!(door.says("::1", "moodle", "the second password").await, "out", "the app is gone");
    door.configure("[[app]]\nname = 'moodle'\npassword = { env = 'PASSWORD' }\n");
    assert_eq!(door.says("::1", "moodle", "a password of the environment").await, "in");
}

#[tokio::test]
async fn a_password_that_cannot_be_read_is_no_wrong_one() {
    let missing = "[[app]]\nname = 'erp'\npassword = { env = 'NOWHERE' }\n";
    let door = Door::with(&format!("{MOODLE}{missing}"));
    assert_eq!(door.says("::1", "erp", "a password of moodle").await, "unknown");
    assert_eq!(door.says("::1", "nobody", "x").await, "unknown", "the answer does not tell which apps there are");
    assert_eq!(door.says("::1", "moodle", "a password of moodle").await, "in", "others are unharmed");
    door.configure(missing);
    assert_eq!(door.says("::1", "erp", "x").await, "unknown");
}

#[tokio::test]
async fn what_could_not_be_read_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    let text = format!("{MOODLE}[[app]]\nname = 'erp'\npassword = {{ file = '{}' }}\n", file.display());
    let door = Door::with(&text);
    assert_eq!(door.says("::1", "erp", "a password of erp").await, "unknown");
    std::fs::write(&file, "a password of erp").unwrap();
    door.keeper.book().await.unwrap().read_missing(&Environment::default());
    assert_eq!(door.says("::1", "erp", "a password of erp").await, "in");
    assert_eq!(door.says("::1", "nobody", "x").await, "out", "now it can be told");
}

#[tokio::test]
async fn a_hash_in_the_configuration_is_as_good_as_the_password() {
    let hash = "$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$gy5SuVm5Z7Vw7keB9se9p87QGcomaseB/S2U1OhTsM0";
    let door = Door::with(&format!("[[app]]\nname = 'moodle'\npassword = '{hash}'\n"));
    assert_eq!(door.says("::1", "moodle", "correct horse battery staple").await, "in");
    assert_eq!(door.says("::1", "moodle", hash).await, "out");
}

#[tokio::test]
async fn for_a_name_that_nobody_has_another_password_is_compared() {
    let door = Door::with(&format!("{MOODLE}{PRINTERS}"));
    let book = door.keeper.book().await.unwrap();
    let places: Vec<_> = (0..50).map(|n| book.place_of(book.stand_in(&format!("name{n}")).unwrap())).collect();
    assert!(places.contains(&0) && places.contains(&1), "each app's turn comes");
    let again = |name: &str| book.place_of(book.stand_in(name).unwrap());
    assert_eq!(again("Name7"), places[7], "the same name takes the same time whenever it is tried");
    // The stand-in's own password does not help.
    let stand_in = if again("nobody") == 0 { "a password of moodle" } else { "a password of printers" };
    assert_eq!(door.says("10.0.0.1", "nobody", stand_in).await, "out");
}

#[tokio::test]
async fn nothing_of_a_password_is_printed() {
    let door = Door::with(MOODLE);
    assert_eq!(door.says("::1", "moodle", "a password of moodle").await, "in");
    let printed = format!("{:?} {:?}", door.keeper, door.keeper.book().await);
    assert!(!printed.contains("a password of") && !printed.contains("argon2"), "{printed}");
}
