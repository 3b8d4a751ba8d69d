use super::*;
use crate::store::contract;
use rbee_test_services::Postgres;

async fn open() -> (PostgresStore, ()) {
    let url = Postgres::shared().database();
    (PostgresStore::open(&url).await.unwrap(), ())
}

contract::store_contract!(open);
