//! Names of local users.

/// The name of the user with this number, as far as `/etc/passwd` knows it; users that are kept elsewhere (LDAP) are `uid-1234`.
pub(super) fn name_of(uid: u32) -> String {
    let known = std::fs::read_to_string("/etc/passwd").ok().and_then(|passwd| find(&passwd, uid));
    known.unwrap_or_else(|| format!("uid-{uid}"))
}

fn find(passwd: &str, uid: u32) -> Option<String> {
    let uid = uid.to_string();
    let line = passwd.lines().map(|line| line.split(':')).find(|line| line.clone().nth(2) == Some(&uid));
    line.and_then(|mut line| line.next()).filter(|name| !name.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_user_with_the_number_counts() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33::/var/www:\ntoor:x:0:0::/:\n+::::::\n";
        assert_eq!(find(passwd, 0).as_deref(), Some("root"));
        assert_eq!(find(passwd, 33).as_deref(), Some("www-data"));
        assert_eq!(find(passwd, 3), None);
        assert_eq!(name_of(u32::MAX - 7), "uid-4294967288");
    }
}
