//! Every kind of server that a URL can name: the whole contract on each, and what each kind survives.

use super::*;
use rbee_test_services::{Certificates, RedisCluster, Sentinels};

/// The whole contract on whatever the URL names.
async fn contract_holds_at(url: &str) {
    contract::queue_contract!(each RedisQueue::open(url).await.unwrap());
}

#[tokio::test]
async fn password_opens_the_server_and_is_never_shown() {
    let server = Redis::with(&["--requirepass", "canary-right"]);
    let at = format!("127.0.0.1:{}", server.port());
    contract_holds_at(&format!("redis://:canary-right@{at}/3")).await;
    let wrong = [
        format!("redis://:canary-wrong@{at}"),
        format!("redis://{at}"),
        format!("redis+cluster://:canary-wrong@{at}"),
        format!("redis+sentinel://:canary-wrong@{at}/main"),
        format!("redis://:canary wrong@{at}:x"),
        format!("redis+other://:canary-wrong@{at}"),
        format!("http://:canary-wrong@{at}"),
    ];
    for url in wrong {
        let error = failure(RedisQueue::open(&url).await);
        assert!(!error.contains("canary"), "{error}");
    }
    let error = failure(RedisQueue::open(&format!("redis://:canary-wrong@{at}")).await);
    assert!(error.contains(&at) && error.contains("password"), "{error}");
}

#[tokio::test]
async fn server_with_tls_is_trusted_by_its_authority_and_trusts_a_client_by_its_certificate() {
    let certificates = Certificates::new();
    let authority = format!("ssl_ca_certs={}", certificates.path("ca.pem"));
    let client = format!(
        "ssl_certfile={}&ssl_keyfile={}",
        certificates.path("client.pem"),
        certificates.path("client.key")
    );
    // A server that asks nobody for a certificate, and one that asks everybody.
    let open = Redis::secure(&certificates, &["--tls-auth-clients", "no"]);
    contract_holds_at(&format!("{}/2?{authority}", open.url())).await;
    let error = failure(RedisQueue::open(&open.url()).await);
    assert!(error.contains("ssl_ca_certs"), "{error}");
    let strangers = Certificates::new();
    let other = format!("{}?ssl_ca_certs={}", open.url(), strangers.path("ca.pem"));
    let error = failure(RedisQueue::open(&other).await);
    assert!(error.contains("signed by nobody"), "{error}");

    let closed = Redis::secure(&certificates, &["--requirepass", "secret"]);
    let at = format!("rediss://:secret@127.0.0.1:{}?{authority}", closed.port());
    failure(RedisQueue::open(&at).await);
    let queue = RedisQueue::open(&format!("{at}&{client}")).await.unwrap();
    contract::answer_reaches_whoever_asked(&queue).await;
}

#[tokio::test]
async fn master_that_sentinels_name_is_found_again_after_a_failover() {
    let mut servers = tokio::task::spawn_blocking(Sentinels::start).await.unwrap();
    let url = servers.url();
    contract_holds_at(&format!("{url}/4")).await;
    let (node_side, server_side) = (
        RedisQueue::open(&url).await.unwrap(),
        RedisQueue::open(&url).await.unwrap(),
    );
    let node = joined(&node_side, 9).await;
    server_side.push(&node, many(0..2)).await.unwrap();
    assert_eq!(node_side.take(&node, 9).await.unwrap(), many(0..2));
    let servers = tokio::task::spawn_blocking(move || {
        servers.fail_over();
        servers
    });
    let servers = soon(servers).await.unwrap();
    // What a heartbeat and reconciling do: replication may have lost the last of it.
    until_done(|| node_side.join(&node, 9)).await;
    until_done(|| server_side.push(&node, many(0..4))).await;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let taken = until_done(|| node_side.take(&node, 9)).await;
        seen.extend(taken.into_iter().map(|work| work.job.index.0));
        seen.retain(|index| *index > 1);
    }
    assert_eq!(seen, [2, 3]);
    // The ears hear the new master.
    let mut watcher = until_done(|| server_side.watch(held(0).job)).await;
    node_side.publish(vec![piece(0, 0)]).await;
    assert_eq!(soon(watcher.recv()).await.unwrap(), piece(0, 0));
    drop(servers);
}

#[tokio::test]
async fn cluster_of_three_masters_takes_every_command_and_outlives_a_member() {
    let mut cluster = tokio::task::spawn_blocking(|| RedisCluster::start(3))
        .await
        .unwrap();
    contract_holds_at(&cluster.url()).await;
    let queue = RedisQueue::open(&cluster.url()).await.unwrap();
    // Enough inboxes that each member has some.
    let mut nodes = Vec::new();
    for _ in 0..12 {
        let node = joined(&queue, 9).await;
        queue.push(&node, many(0..2)).await.unwrap();
        nodes.push(node);
    }
    for member in &cluster.members {
        assert_ne!(member.ask(&["DBSIZE"]), "0");
    }
    let cluster = tokio::task::spawn_blocking(move || {
        cluster.members[1].down();
        cluster.members[1].up();
        cluster.until_whole();
        cluster
    });
    let cluster = soon(cluster).await.unwrap();
    for node in &nodes {
        until_done(|| queue.join(node, 9)).await;
        until_done(|| queue.push(node, many(0..2))).await;
        assert_eq!(until_done(|| queue.take(node, 9)).await, many(0..2));
    }
    drop(cluster);
}
