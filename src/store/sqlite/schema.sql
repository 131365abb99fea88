-- The queue of xoauth2-relay, version 3. Times are milliseconds since 1970 (UTC), spans are milliseconds.
-- Accounts and logins are kept twice where they are shown: in lower case to compare, and as they were written ("mailbox").
-- Changing something? Raise SCHEMA_VERSION in mod.rs and add to STEPS what leads from the version before; docs/queue.md names the states.

-- What was accepted and is not settled, and dead letters. Small rows: the scheduler and `queue list` never touch bodies.
CREATE TABLE message (
    id          INTEGER PRIMARY KEY,
    received_at INTEGER NOT NULL,
    app         TEXT NOT NULL,
    account     TEXT NOT NULL,
    mailbox     TEXT NOT NULL,
    lane        INTEGER NOT NULL DEFAULT 1, -- 0 urgent, 1 normal, 2 bulk
    lane_why    TEXT,
    outside     INTEGER NOT NULL DEFAULT 0, -- 1: it has recipients that a tenant's budget counts
    state       TEXT NOT NULL CHECK (state IN ('waiting', 'held', 'dead')),
    due_at      INTEGER NOT NULL,
    tries       INTEGER NOT NULL,
    tried_for   INTEGER NOT NULL,
    pending     INTEGER NOT NULL,   -- recipients that an attempt has to cover
    dead_at     INTEGER,            -- since when it is a dead letter
    sender      TEXT,               -- NULL: the null sender
    smtputf8    INTEGER NOT NULL,
    peer        TEXT NOT NULL,
    helo        TEXT,
    protocol    TEXT NOT NULL,      -- [e]smtp[s][a]
    user        TEXT,
    subject     TEXT,
    size        INTEGER NOT NULL,
    in_file     INTEGER NOT NULL,   -- 1: the body is bodies/ID, 0: in the table body
    ret         TEXT,               -- RET, ENVID, NOTIFY and ORCPT of RFC 3461, word for word
    envid       TEXT,
    warned_at   INTEGER,            -- when its sender was warned that it takes long
    by_order    INTEGER NOT NULL DEFAULT 0 -- 1: it is held because a person ordered it
) STRICT;

-- Serves the windows (account, 'waiting', lane, app, outside, by due_at and id), the flows, the counts and the accounts that have mail.
CREATE INDEX message_by_flow ON message (account, state, lane, app, outside, due_at, id, pending);
CREATE INDEX message_dead ON message (dead_at) WHERE dead_at IS NOT NULL;

CREATE TABLE body (
    id    INTEGER PRIMARY KEY,
    bytes BLOB NOT NULL
) STRICT;

CREATE TABLE recipient (
    message INTEGER NOT NULL,
    n       INTEGER NOT NULL,       -- the place in the envelope, from 0
    address TEXT NOT NULL,
    state   TEXT NOT NULL CHECK (state IN ('waiting', 'held', 'in_doubt', 'refused', 'accepted')),
    reply   TEXT,
    notify  TEXT,
    orcpt   TEXT,
    tell_at INTEGER,                -- when somebody is to be told that it is refused; the largest number: nobody can be; NULL: it was told
    PRIMARY KEY (message, n)
) STRICT, WITHOUT ROWID;

-- Serves who has to be told, and how many nobody could be told of.
CREATE INDEX recipient_to_tell ON recipient (tell_at) WHERE tell_at IS NOT NULL;

-- What is left of messages that are settled or deleted.
CREATE TABLE archive (
    id          INTEGER PRIMARY KEY,
    received_at INTEGER NOT NULL,
    finished_at INTEGER NOT NULL,
    ending      TEXT NOT NULL CHECK (ending IN ('finished', 'deleted')),
    app         TEXT NOT NULL,
    account     TEXT NOT NULL,
    mailbox     TEXT NOT NULL,
    sender      TEXT,
    subject     TEXT,
    size        INTEGER NOT NULL,
    lane        INTEGER NOT NULL DEFAULT 1,
    lane_why    TEXT
) STRICT;

CREATE INDEX archive_by_time ON archive (finished_at);

CREATE TABLE archive_recipient (
    message INTEGER NOT NULL,
    n       INTEGER NOT NULL,
    address TEXT NOT NULL,
    state   TEXT NOT NULL,
    reply   TEXT,
    PRIMARY KEY (message, n)
) STRICT, WITHOUT ROWID;

-- A message's arrival is not here: its row, or that of the archive, tells it.
CREATE TABLE journal (
    n       INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    message INTEGER,
    mailbox TEXT,
    account TEXT,
    text    TEXT NOT NULL
) STRICT;

CREATE INDEX journal_by_message ON journal (message) WHERE message IS NOT NULL;
-- The account's own story; what happened to its messages is found through them.
CREATE INDEX journal_by_account ON journal (account) WHERE message IS NULL AND account IS NOT NULL;
CREATE INDEX journal_by_time ON journal (at);

CREATE TABLE hold (
    account  TEXT PRIMARY KEY,
    mailbox  TEXT NOT NULL,
    cause    TEXT NOT NULL,
    reply    TEXT,
    error    TEXT,
    codes    TEXT NOT NULL,         -- AADSTS numbers, parted by spaces
    since    INTEGER NOT NULL,
    probe_at INTEGER,
    probes   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE sign_in (
    account      TEXT PRIMARY KEY,
    mailbox      TEXT NOT NULL,
    current      BLOB NOT NULL,     -- sealed
    previous     BLOB,              -- sealed
    signed_in_as TEXT,
    since        INTEGER NOT NULL,
    refreshed_at INTEGER NOT NULL,
    refresh_life INTEGER,           -- how long "current" may lie unused, if the endpoint said so
    access       BLOB,              -- sealed; NULL: none, or Exchange rejected it
    access_at    INTEGER,           -- when it came
    access_life  INTEGER
) STRICT;

-- What was learnt, by the name that its part gives it. "account" is empty and "mailbox" NULL for what the relay knows of itself.
CREATE TABLE fact (
    account TEXT NOT NULL,
    mailbox TEXT,
    name    TEXT NOT NULL,
    value   TEXT NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (account, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE sent (
    login      TEXT NOT NULL,
    at         INTEGER NOT NULL,
    recipients INTEGER NOT NULL,
    outside    INTEGER NOT NULL DEFAULT 0 -- those that the tenant's budget counts
) STRICT;

CREATE INDEX sent_by_login ON sent (login, at, recipients, outside);
CREATE INDEX sent_by_time ON sent (at);

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
