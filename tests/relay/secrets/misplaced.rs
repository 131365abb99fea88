//! Secrets where they do not belong.

use super::MISPLACED;

/// A secret in every place of the configuration where it is one, or where somebody may put it by mistake.
pub fn misplaced() -> Vec<String> {
    let account = "mailbox = \"lms@contoso.com\"\ntenant = \"contoso.onmicrosoft.com\"\n\
                   client_id = \"00000000-0000-0000-0000-000000000000\"\n";
    let in_account = [
        format!("client_secret = \"{MISPLACED}"),
        format!("client_secret = \"{MISPLACED}\" \"twice\""),
        format!("client_secret = [\"{MISPLACED}\"]"),
        format!("client_secret = {{ fil = \"{MISPLACED}\" }}"),
        format!("client_secret = {{ file = [\"{MISPLACED}\"] }}"),
        format!("client_secret = {{ command = [\"false\", \"{MISPLACED}\"] }}"),
        format!("client_secret = {{ command = \"{MISPLACED}\" }}"),
        format!("client_secrets = \"{MISPLACED}\""),
        format!("client_secret_expires = \"{MISPLACED}\""),
        format!("client_secret = \"{MISPLACED}\"\nclient_secret = \"{MISPLACED}\""),
        format!("client_secret = '''{MISPLACED}"),
        format!("token_url = \"https://svc:{MISPLACED}@login.example/token\""),
        format!("token_url = \"http://svc:{MISPLACED}@login.example/token\""),
        format!("smtp = \"svc:{MISPLACED}@smtp.example:587\""),
        format!("scopes = \"{MISPLACED}\""),
        format!("next_client_secret = [\"{MISPLACED}\"]"),
        format!("certificate = \"{MISPLACED}\""),
        format!("certificate = {{ certificate = \"cert.pem\", key = {{ text = \"{MISPLACED}\" }} }}"),
        format!("federated_token = [\"{MISPLACED}\"]"),
        format!("password = \"{MISPLACED}\""),
        format!("provider = \"smarthost\"\npassword = [\"{MISPLACED}\"]"),
    ];
    let mut texts: Vec<String> =
        in_account.iter().map(|line| format!("[[account]]\n{account}{line}\nsend_as = 3\n")).collect();
    for line in [
        format!("key = \"{MISPLACED}\""),
        format!("key = [\"{MISPLACED}\"]"),
        format!("[[app]]\npassword = \"{MISPLACED}\""),
        format!("[[app]]\nname = \"moodle\"\npassword = [\"{MISPLACED}\"]"),
        format!("[[app]]\nname = \"moodle\"\npasswords = \"{MISPLACED}\""),
        format!(
            "[[app]]\nname = \"moodle\"\npassword = {{ command = [\"sh\", \"-c\", 'echo \"{MISPLACED}\" | tee /dev/stderr; false'] }}"
        ),
        format!("[[app]]\nname = \"moodle\"\npassword = {{ command = [\"{MISPLACED}\"] }}"),
        format!("[[app]]\nname = \"moodle\"\npassword = {{ env = [\"{MISPLACED}\"] }}"),
        format!("[[listener]]\naddress = \"127.0.0.1:0\"\npassword = \"{MISPLACED}\""),
        format!("[alert]\nwebhook = \"{MISPLACED}\""),
        format!("[alert]\nwebhook = [{{ uri = \"https://hooks.example/{MISPLACED}\" }}]"),
        format!("[alert]\nwebhook = [{{ url = \"http://hooks.example/{MISPLACED}\" }}]"),
        format!("[alert]\nwebhook = [{{ url = \"ftp://svc:{MISPLACED}@hooks.example/\" }}]"),
        format!("[alert]\nwebhook = [{{ url = \"https://hooks.example/{MISPLACED}\", format = \"xml\" }}]"),
        format!("[alert]\nheartbeat_url = [\"{MISPLACED}\"]"),
        format!("[alert]\nheartbeat_url = \"hooks.example/{MISPLACED}\""),
        format!("[alert]\ncommand = \"page --token={MISPLACED}\""),
    ] {
        let (top, below) = if line.starts_with("key") { (line.as_str(), "") } else { ("", line.as_str()) };
        texts.push(format!("{top}\n[[account]]\n{account}send_as = 3\n{below}\n"));
    }
    texts
}
