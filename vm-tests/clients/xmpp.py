#!/usr/bin/env python3
"""A real XMPP client: logs in over STARTTLS, sends itself or somebody else a message, waits for it or
for theirs, and lists what is in its archive.

Prints one JSON object; exits 0 if the message came, else 1 with a cause in "failed". The
server's certificate must be the one given, and be for the domain. Needs python3-slixmpp.
"""

import argparse
import asyncio
import inspect
import json
import pathlib
import secrets
import sys

import slixmpp


class Client(slixmpp.ClientXMPP):
    """One login, one message each way."""

    def __init__(self, options, outcome):
        super().__init__(options.jid, options.password)
        self.ca_certs = pathlib.Path(options.certificate)
        self.outcome = outcome
        self.body = options.body or secrets.token_hex(16)
        self.peer = options.peer
        self.awaited = options.expect or self.body
        self.facts = {"message_returned": False, "archive": []}
        self.refusal = "no mechanism in common"
        self.register_plugin("xep_0313")
        # Only mechanisms in which the password itself is never told; and without channel binding:
        # slixmpp 1.8 knows only a kind that TLS 1.3 doesn't have, and fails for trying it.
        sasl = self["feature_mechanisms"]
        sasl.use_mechs = {"SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"}
        credentials = sasl.sasl_callback
        sasl.sasl_callback = lambda required, optional: {
            **credentials(required, optional),
            "channel_binding": None,
        }
        self.add_event_handler("session_start", self.on_session)
        self.add_event_handler("message", self.on_message)
        self.add_event_handler("failed_auth", self.on_refusal)
        self.add_event_handler("failed_all_auth", lambda _: self.fail(f"login: {self.refusal}"))
        self.add_event_handler("ssl_invalid_chain", lambda error: self.fail(f"TLS: {error}"))
        self.add_event_handler("connection_failed", lambda error: self.fail(f"TCP: {error}"))
        self.add_event_handler("disconnected", lambda why: self.fail(f"disconnected: {why}"))

    async def on_session(self, _):
        tls = self.transport.get_extra_info("ssl_object")
        if tls is None:
            self.fail("the session is not encrypted")
            return
        self.facts["tls_version"] = tls.version()
        self.facts["cipher"] = tls.cipher()[0]
        self.facts["sasl_mechanism"] = self["feature_mechanisms"].mech.name
        self.send_presence()
        self.send_message(mto=self.peer or self.boundjid, mbody=self.body, mtype="chat")

    async def on_message(self, message):
        sender = self.peer or self.boundjid.bare
        is_it = message["body"] == self.awaited and message["from"].bare == sender
        if is_it and not self.facts["message_returned"]:
            self.facts["message_returned"] = True
            try:
                async for result in self["xep_0313"].iterate(rsm={"max": "50"}):
                    stanza = result["mam_result"]["forwarded"]["stanza"]
                    self.facts["archive"].append(stanza["body"])
            except slixmpp.exceptions.IqError as error:
                self.fail(f"archive: {error.condition}")
            self.finish()

    def on_refusal(self, stanza):
        self.refusal = stanza["condition"]

    def fail(self, cause):
        self.facts.setdefault("failed", cause)
        self.finish()

    def finish(self):
        if not self.outcome.done():
            self.outcome.set_result(self.facts)


def connect(client, host, port):
    """slixmpp 1.9 takes host and port apart and knows STARTTLS only; 1.8 must be told."""
    if "force_starttls" in inspect.signature(client.connect).parameters:
        client.connect((host, port), force_starttls=True)
    else:
        client.enable_direct_tls = False
        client.connect(host, port)


async def run(options):
    outcome = asyncio.get_running_loop().create_future()
    client = Client(options, outcome)
    connect(client, options.host, options.port)
    try:
        return await asyncio.wait_for(asyncio.shield(outcome), options.within)
    except asyncio.TimeoutError:
        return {**client.facts, "failed": f"not done within {options.within} s"}
    finally:
        client.abort()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--jid", required=True)
    parser.add_argument("--password", required=True)
    parser.add_argument("--certificate", required=True, help="PEM file: the one to accept")
    parser.add_argument("--body", help="the message; else a random one")
    parser.add_argument("--peer", help="whom it is for; else oneself")
    parser.add_argument("--expect", help="what the peer says")
    parser.add_argument("--within", type=float, default=30, help="seconds")
    facts = asyncio.run(run(parser.parse_args()))
    print(json.dumps(facts))
    sys.exit(0 if facts["message_returned"] else 1)


if __name__ == "__main__":
    main()
