//! A person in front of a real browser: Chromium, driven by `clients/browser.js`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::clients::{client, modern_node, script, unpacked};
use crate::support::PATIENCE;

/// Where pictures of the pages go, if somebody wants to look at them.
const PICTURES: &str = "XOAUTH2_RELAY_PICTURES";
/// A phone and a desk.
const WIDTHS: [u32; 2] = [360, 1000];

/// One window of a fresh profile.
pub struct Chromium {
    driver: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Chromium {
    /// `None` if it is to be left out.
    pub fn start() -> Option<Self> {
        Self::with(&[])
    }

    /// The browser of another machine: `http://localhost` leads nowhere.
    pub fn elsewhere() -> Option<Self> {
        Self::with(&["--host-resolver-rules=MAP localhost 127.0.0.2, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"])
    }

    fn with(switches: &[&str]) -> Option<Self> {
        let node = modern_node()?;
        let chromium = client("chromium")?;
        let modules = unpacked("node_modules/playwright-core")?;
        let own = ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"];
        let mut driver = Command::new(node)
            .arg(script("browser.js"))
            .args(if switches.is_empty() { &own } else { switches })
            .env("NODE_PATH", modules.parent().unwrap())
            .env("XOAUTH2_RELAY_CHROMIUM", chromium)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (orders, answers) = (driver.stdin.take(), BufReader::new(driver.stdout.take().unwrap()));
        let mut chromium = Self { driver, orders, answers };
        assert_eq!(chromium.answer().unwrap(), "ready");
        Some(chromium)
    }

    fn order(&mut self, order: &Value) -> Result<Value, String> {
        tokio::task::block_in_place(|| {
            writeln!(self.orders.as_mut().unwrap(), "{order}").unwrap();
            self.answer()
        })
    }

    fn answer(&mut self) -> Result<Value, String> {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let mut answer: Value = serde_json::from_str(&line).map_err(|_| format!("the driver has ended: {line:?}"))?;
        match answer["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(answer["ok"].take()),
        }
    }

    fn must(&mut self, order: &Value) -> Value {
        let text = order.to_string();
        self.order(order).unwrap_or_else(|error| panic!("{text}: {error}\n{}", self.text()))
    }

    /// Types an address in; whether its page could be opened.
    pub fn open(&mut self, address: &str) -> bool {
        self.must(&json!(["open", address])) == true
    }

    /// What stands in the address bar.
    pub fn address(&mut self) -> String {
        self.must(&json!(["address"])).as_str().unwrap().to_owned()
    }

    /// What can be read on the page.
    pub fn text(&mut self) -> String {
        self.order(&json!(["text"])).ok().and_then(|text| text.as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// Waits until this can be read; the whole page.
    pub fn until(&mut self, says: &str) -> String {
        let since = Instant::now();
        loop {
            let text = self.text();
            if text.contains(says) {
                return text;
            }
            let address = self.address();
            assert!(since.elapsed() < PATIENCE, "{says:?} never came; {address} says:\n{text}");
            tokio::task::block_in_place(|| std::thread::sleep(Duration::from_millis(20)));
        }
    }

    /// Waits until the address bar shows this.
    pub fn until_address(&mut self, has: &str) -> String {
        let since = Instant::now();
        loop {
            let address = self.address();
            if address.contains(has) {
                return address;
            }
            let text = self.text();
            assert!(since.elapsed() < PATIENCE, "{has:?} never came; {address} says:\n{text}");
            tokio::task::block_in_place(|| std::thread::sleep(Duration::from_millis(20)));
        }
    }

    pub fn click(&mut self, button: &str) {
        self.must(&json!(["click", button]));
    }

    pub fn choose(&mut self, radio: &str) {
        self.must(&json!(["choose", radio]));
    }

    pub fn fill(&mut self, selector: &str, text: &str) {
        self.must(&json!(["fill", selector, text]));
    }

    pub fn press(&mut self, key: &str) {
        self.must(&json!(["press", key]));
    }

    pub fn type_in(&mut self, text: &str) {
        self.must(&json!(["type", text]));
    }

    /// Tab by tab to what says this.
    pub fn tab_to(&mut self, says: &str) {
        for _ in 0..30 {
            if self.must(&json!(["focused"])).as_str().unwrap().trim() == says {
                return;
            }
            self.press("Tab");
        }
        panic!("the Tab key does not lead to {says:?} on\n{}", self.text());
    }

    pub fn close_tab(&mut self) {
        self.must(&json!(["close"]));
    }

    /// The page fits a phone and a desk, and the browser has found nothing wrong with it. A picture of each goes where
    /// [`PICTURES`] says, light and dark.
    pub fn look(&mut self, name: &str) {
        for width in WIDTHS {
            assert_eq!(self.must(&json!(["overflows", width])), false, "{name} is wider than {width} pixels");
            let Some(folder) = std::env::var_os(PICTURES) else { continue };
            for scheme in ["light", "dark"] {
                let file = std::path::Path::new(&folder).join(format!("{name}-{width}-{scheme}.png"));
                self.must(&json!(["picture", file, width, scheme]));
            }
        }
        let problems = self.must(&json!(["problems"]));
        let problems: Vec<&str> = problems.as_array().unwrap().iter().filter_map(Value::as_str).collect();
        // It says so of every page that comes with such a status, and that is meant.
        let meant = |problem: &&str| problem.contains("the server responded with a status of 400");
        assert!(problems.iter().all(meant), "{name}: {problems:?}");
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.driver.wait();
    }
}
