use super::*;
use std::fs;

fn token(jid: &str) -> Token {
    Token { jid: jid.into(), created: 1, expires: 2, standing: Standing::Member }
}

async fn fill(store: &Store) {
    store.keep_token(Digest([1; 32]), token("a@b"), vec![]).await.unwrap();
    store.keep_token(Digest([2; 32]), token("c@d"), vec![Digest([1; 32])]).await.unwrap();
    let name = "Acme'); DROP TABLE token; --".to_owned();
    let workspace = Workspace { name, accent_color: Some("#1972f5".into()) };
    store.keep_workspace(Workspace { name: "Old".into(), accent_color: None }).await.unwrap();
    store.keep_workspace(workspace).await.unwrap();
    // As an older version left them.
    let nicknames = "INSERT INTO nickname VALUES ('alice', 'Ally'), ('bob', 'Bob')";
    store.write(move |to| to.execute(nicknames, []).map(drop)).await.unwrap();
    store.forget_nickname("bob".into()).await.unwrap();
    let settings = [("tls_profile", Some("\"old\"".into())), ("federation_enabled", None)];
    store.keep_settings(settings.to_vec()).await.unwrap();
    for domain in ["a.example", "b.example"] {
        store.keep_domain(&domain.parse().unwrap()).await.unwrap();
    }
    store.keep_standings(vec![(Digest([2; 32]), Standing::Demoted)]).await.unwrap();
    for key in ["b", "a", "b"] {
        store.keep_step(key).await.unwrap();
    }
    for bytes in [&b"old"[..], b"GIF89a"] {
        store.keep_icon(Bytes::from_static(bytes)).await.unwrap();
    }
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    // The deployment guide makes an empty file beforehand.
    fs::write(folder.path().join(FILE), "").unwrap();
    let (store, kept) = Store::open(folder.path()).unwrap();
    assert_eq!(kept, Kept::default());
    fill(&store).await;
    // While it is open still, as after a kill.
    let (_, kept) = Store::open(folder.path()).unwrap();
    let name = "Acme'); DROP TABLE token; --".to_owned();
    let workspace = Workspace { name, accent_color: Some("#1972f5".into()) };
    let expected = Kept {
        tokens: vec![(Digest([2; 32]), Token { standing: Standing::Demoted, ..token("c@d") })],
        workspace: Some(workspace),
        nicknames: vec![("alice".into(), "Ally".into())],
        settings: vec![("tls_profile".into(), "\"old\"".into())],
        icon: Some(b"GIF89a".into()),
        domain: Some("b.example".parse().unwrap()),
        onboarding: vec!["a".into(), "b".into()],
        ..Kept::default()
    };
    assert_eq!(kept, expected);
    store.forget_tokens(vec![Digest([2; 32])]).await.unwrap();
    assert!(Store::open(folder.path()).unwrap().1.tokens.is_empty());
}

#[tokio::test]
async fn c30_a_damaged_one_is_told_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    let (store, _) = Store::open(folder.path()).unwrap();
    fill(&store).await;
    drop(store);
    // All of it in one file, as after a clean end.
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    drop(connection);
    let sound = fs::read(&path).unwrap();
    let mut torn = sound.clone();
    torn[4096..8192].fill(0x5a);
    for (name, bytes) in [
        ("no database", b"this is no database, though it has many bytes".repeat(100)),
        ("its first page torn", [&sound[..50], &[0xff; 50], &sound[100..]].concat()),
        ("a page lost", torn),
        ("cut off", sound[..sound.len() - 4096].to_vec()),
    ] {
        for wal in ["pod.sqlite-wal", "pod.sqlite-shm"] {
            let _ = fs::remove_file(folder.path().join(wal));
        }
        fs::write(&path, &bytes).unwrap();
        let error = Store::open(folder.path()).expect_err(name);
        assert!(matches!(error, Error::Damaged(..)), "{name}: {error}");
        let said = error.to_string();
        assert!(
            said.contains("pod.sqlite: it is damaged: ") && said.contains("\nhint: "),
            "{said}"
        );
        assert!(fs::read(&path).unwrap() == bytes, "{name}: it was changed");
    }
}

#[test]
fn what_cannot_be_used_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let absent = Store::open(&folder.path().join("absent")).unwrap_err();
    assert!(absent.to_string().starts_with("cannot use "), "{absent}");
    let connection = Connection::open(folder.path().join(FILE)).unwrap();
    connection.execute_batch("PRAGMA user_version = 7; CREATE TABLE later (a)").unwrap();
    let newer = Store::open(folder.path()).unwrap_err();
    assert!(newer.to_string().contains("newer version (schema 7, known is 5)"), "{newer}");
}

#[tokio::test]
async fn a_write_that_fails_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(folder.path()).unwrap();
    let failed = store.write(|to| to.execute("INSERT INTO nowhere VALUES (1)", []).map(drop)).await;
    assert!(failed.unwrap_err().to_string().starts_with("cannot write "));
    store.forget_nickname("a".into()).await.unwrap();
}

#[tokio::test]
async fn one_of_the_first_version_is_brought_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(folder.path()).unwrap();
    fill(&store).await;
    drop(store);
    let connection = Connection::open(folder.path().join(FILE)).unwrap();
    connection
        .execute_batch(
            "DROP TABLE setting; DROP TABLE icon; DROP TABLE invitation; DROP TABLE password_reset;
             DROP TABLE recovery_address; DROP TABLE onboarding;
             ALTER TABLE token DROP COLUMN standing; PRAGMA user_version = 1",
        )
        .unwrap();
    drop(connection);
    let (store, kept) = Store::open(folder.path()).unwrap();
    assert_eq!(kept.tokens, [(Digest([2; 32]), token("c@d"))]);
    assert_eq!(kept.settings, []);
    store.keep_settings(vec![("tls_profile", Some("\"old\"".into()))]).await.unwrap();
}

#[tokio::test]
async fn others_that_read_or_write_are_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(folder.path()).unwrap();
    let mode = |of: &Connection| -> String {
        of.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap()
    };
    let reader = Connection::open(folder.path().join(FILE)).unwrap();
    assert_eq!(mode(&reader), "wal");
    let count = |of: &Connection| -> u32 {
        of.query_row("SELECT count(*) FROM token", [], |row| row.get(0)).unwrap()
    };
    // A reader that goes on holding what it sees, as a backup does; and a writer for a while.
    reader.execute_batch("BEGIN").unwrap();
    assert_eq!(count(&reader), 0);
    let writer = Connection::open(folder.path().join(FILE)).unwrap();
    writer
        .execute_batch("BEGIN IMMEDIATE; INSERT INTO token VALUES (zeroblob(32), 'a@b', 1, 2, 0)")
        .unwrap();
    let blocked = std::time::Instant::now();
    let blocker = thread::spawn(move || {
        thread::sleep(std::time::Duration::from_millis(300));
        writer.execute_batch("COMMIT").unwrap();
    });
    let writes: Vec<_> = (1..=100)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                store.keep_token(Digest([number; 32]), token("a@b"), vec![]).await
            })
        })
        .collect();
    for write in writes {
        write.await.unwrap().unwrap();
    }
    assert!(blocked.elapsed() >= std::time::Duration::from_millis(300));
    blocker.join().unwrap();
    assert_eq!(count(&reader), 0, "it sees what it saw");
    reader.execute_batch("COMMIT").unwrap();
    assert_eq!(count(&reader), 101);
}
