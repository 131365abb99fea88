//! `[[tenant]]`.

use super::*;
use crate::message::Address;

#[test]
fn what_is_within_the_organisation_is_what_is_named_its_mailboxes_and_its_own_name() {
    let config = with_account(
        "[[tenant]]\nname = 'CONTOSO.onmicrosoft.com'\nexternal_recipients_per_day = 5000\n\
         domains = ['School.org', 'schüler.example']\n",
    )
    .unwrap();
    let [tenant] = &config.tenants[..] else { panic!("{:?}", config.tenants) };
    assert_eq!(tenant.external_recipients_per_day, 5000);
    for (address, is_outside) in [
        ("a@contoso.com", false),
        ("a@CONTOSO.COM", false),
        ("a@contoso.onmicrosoft.com", false),
        ("a@school.org", false),
        ("a@SCHÜLER.example", false),
        ("a@xn--schler-5ya.example", false),
        ("a@mail.school.org", true),
        ("a@example.com", true),
        ("a@[192.0.2.1]", true),
    ] {
        assert_eq!(tenant.is_outside(&Address::parse(address).unwrap()), is_outside, "{address}");
    }
    assert_eq!(config.tenant("Contoso.OnMicrosoft.com"), Some(tenant));
    assert_eq!(config.tenant("fabrikam.com"), None);
}

#[test]
fn all_that_is_wrong_with_tenants_is_said_at_once() {
    assert_listing(
        &format!(
            "{ACCOUNT}[[tenant]]\n\
             [[tenant]]\nname = 'fabrikam.com'\nexternal_recipients_per_day = 0\n\
             [[tenant]]\nname = 'contoso.onmicrosoft.com'\nexternal_recipients_per_day = 10000\nrecipients_per_day = 1\n\
             [[tenant]]\nname = 'Contoso.onmicrosoft.com'\nexternal_recipients_per_day = 20000\n\
             domains = ['*.contoso.com', 'it@contoso.com', 'no domain']\n"
        ),
        &[
            "6: tenant[0].name: is missing: write it as tenant of the accounts does, for example contoso.onmicrosoft.com",
            "6: tenant[0].external_recipients_per_day: is missing: write what Exchange lets the tenant send to recipients outside in \
             24 hours: 500 x licences^0.7 + 9500, of a trial 5000",
            "8: tenant[1].name: no account has tenant = \"fabrikam.com\": write it as the accounts do (contoso.onmicrosoft.com), or \
             remove the [[tenant]]",
            "9: tenant[1].external_recipients_per_day: is 0: it must be at least 1",
            "13: tenant[2].recipients_per_day: does not belong to [[tenant]], but below [[account]]",
            "15: tenant[3].name: \"Contoso.onmicrosoft.com\" is already tenant[2] (line 10): keep one of the two",
            "17: tenant[3].domains[0]: \"*.contoso.com\" is a pattern: write each domain of the organisation, subdomains too",
            "17: tenant[3].domains[1]: \"it@contoso.com\" is an address: write the domain alone, \"contoso.com\"",
            "17: tenant[3].domains[2]: \"no domain\" is no domain: write one such as \"contoso.com\"",
        ],
    );
}

#[test]
fn an_account_that_cannot_be_read_may_be_the_one_that_is_meant() {
    let problems = load(
        "[[account]]\nmailbox = 'lms'\ntenant = 'contoso.onmicrosoft.com'\nclient_id = '11111111-0000-0000-0000-000000000000'\n\
         [[tenant]]\nname = 'contoso.onmicrosoft.com'\nexternal_recipients_per_day = 5000\n",
    )
    .unwrap_err()
    .to_string();
    assert!(!problems.contains("tenant[0]"), "{problems}");
}
