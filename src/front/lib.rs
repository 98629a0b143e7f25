//! The web front of an appliance: all that answers on port 3030.
//!
//! ```text
//! /                    one page: how the appliance is, and where to go next   page, look
//! /api/v1/appliance    the same for programs                                  appliance, upgrades
//! /api/v1/appliance/…  upgrades, reboots: an admin's                          operate, admin, install
//! /api/…               pod-api's, over its unix socket, without the `/api`    proxy
//! ```
//!
//! It stands between a network and a socket, so what it trusts is small: a request is one that hyper
//! has parsed and [`route`] and [`headers`] let through, and is framed anew for pod-api. Paths are
//! passed on as they came or refused, never mended. [`door`] bounds who takes how many connections,
//! [`limits`] has every other bound.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod admin;
pub mod appliance;
mod body;
mod control;
pub mod door;
mod fresh;
pub mod headers;
mod install;
pub mod limits;
pub mod listen;
mod look;
mod operate;
pub mod options;
pub mod page;
mod patient;
mod pod_api;
pub mod problem;
mod proxy;
pub mod reply;
pub mod route;
pub mod server;
pub mod upgrades;
