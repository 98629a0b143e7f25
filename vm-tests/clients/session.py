#!/usr/bin/env python3
"""A real XMPP client that stays: logs in over STARTTLS, then obeys one JSON object a line.

    {"do": "iq", "type": "get", "to": "bob@example.org", "xml": "<vcard …/>"}  → {"xml": "<iq …>"}
    {"do": "message", "to": "bob@example.org", "body": "hello"}                → {}
    {"do": "await", "what": "message", "text": "hello"}                        → {"xml": "<message …>"}
    {"do": "archive"}                                                          → {"bodies": ["hello"]}
    {"do": "end"}                                                              → {}

`await` looks through all that has come, and then waits. "what" is `message`, `presence`, `iq` (one that
the Server sent unasked: a roster push) or `disconnected`; "text" is what its XML holds. An answer with
"failed" says why not; after a disconnection everything but `await` fails. The first line that is printed
tells whether the login worked. The Server's certificate must be the one given, and be for the domain.
"""

import argparse
import asyncio
import json
import pathlib
import sys

import slixmpp
from slixmpp.xmlstream import ET

from xmpp import connect


class Failed(Exception):
    """What goes into "failed"."""


class Session(slixmpp.ClientXMPP):
    """One login, and all that came since."""

    def __init__(self, options):
        super().__init__(options.jid, options.password)
        self.ca_certs = pathlib.Path(options.certificate)
        self.options = options
        self.came = []
        self.news = asyncio.Condition()
        self.up = asyncio.get_running_loop().create_future()
        self.ended = None
        self.refusal = "no mechanism in common"
        self.register_plugin("xep_0313")
        self.roster.auto_authorize = None
        self.auto_subscribe = False
        self.plugin["feature_mechanisms"].use_mechs = {"SCRAM-SHA-1", "SCRAM-SHA-256"}
        self.add_event_handler("session_start", self.on_session)
        self.add_event_handler("message", lambda it: self.note("message", it))
        self.add_event_handler("presence", lambda it: self.note("presence", it))
        self.add_event_handler("roster_update", lambda it: self.note("iq", it))
        self.add_event_handler("failed_auth", self.on_refusal)
        self.add_event_handler("failed_all_auth", lambda _: self.end(f"login: {self.refusal}"))
        self.add_event_handler("ssl_invalid_chain", lambda error: self.end(f"TLS: {error}"))
        self.add_event_handler("connection_failed", lambda error: self.end(f"TCP: {error}"))
        self.add_event_handler("stream_error", lambda it: self.end(f"stream: {it['condition']}"))
        self.add_event_handler("disconnected", lambda why: self.end(f"disconnected: {why}"))

    async def on_session(self, _):
        if self.transport.get_extra_info("ssl_object") is None:
            self.end("the session is not encrypted")
            return
        await self.get_roster()
        self.send_presence()
        if not self.up.done():
            self.up.set_result({})

    def on_refusal(self, stanza):
        self.refusal = stanza["condition"]

    def note(self, kind, stanza):
        self.came.append((kind, str(stanza)))
        asyncio.ensure_future(self.wake())

    async def wake(self):
        async with self.news:
            self.news.notify_all()

    def end(self, why):
        self.ended = self.ended or why
        self.came.append(("disconnected", self.ended))
        if not self.up.done():
            self.up.set_result({"failed": why})
        asyncio.ensure_future(self.wake())

    async def wait(self, what, text):
        seen = 0
        async with self.news:
            while True:
                for kind, xml in self.came[seen:]:
                    if kind == what and text in xml:
                        return xml
                seen = len(self.came)
                await self.news.wait()

    async def obey(self, order):
        match order:
            case {"do": "await", "what": what, "text": text}:
                return {"xml": await self.wait(what, text)}
            case {"do": "end"}:
                return {}
            case _ if self.ended:
                raise Failed(self.ended)
            case {"do": "iq", "type": kind, "to": to, "xml": xml}:
                iq = self.Iq()
                iq["type"] = kind
                if to:
                    iq["to"] = to
                iq.append(ET.fromstring(xml))
                answer = await iq.send(timeout=self.options.within)
                return {"xml": str(answer)}
            case {"do": "message", "to": to, "body": body}:
                self.send_message(mto=to, mbody=body, mtype="chat")
                return {}
            case {"do": "archive"}:
                found = self.plugin["xep_0313"].iterate(rsm={"max": "50"})
                return {"bodies": [it["mam_result"]["forwarded"]["stanza"]["body"] async for it in found]}
        raise Failed(f"no such order: {order}")

    async def answer(self, line):
        try:
            return await asyncio.wait_for(self.obey(json.loads(line)), self.options.within)
        except slixmpp.exceptions.IqError as error:
            return {"failed": error.condition, "xml": str(error.iq)}
        except (slixmpp.exceptions.IqTimeout, asyncio.TimeoutError):
            return {"failed": f"not within {self.options.within} s"}
        except Failed as error:
            return {"failed": str(error)}


def say(answer):
    print(json.dumps(answer), flush=True)


async def run(options):
    loop = asyncio.get_running_loop()
    session = Session(options)
    connect(session, options.host, options.port)
    try:
        up = await asyncio.wait_for(asyncio.shield(session.up), options.within)
    except asyncio.TimeoutError:
        up = {"failed": f"no session within {options.within} s"}
    say(up)
    while "failed" not in up:
        line = await loop.run_in_executor(None, sys.stdin.readline)
        if not line:
            break
        say(await session.answer(line))
    session.abort()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--jid", required=True)
    parser.add_argument("--password", required=True)
    parser.add_argument("--certificate", required=True, help="PEM file: the one to accept")
    parser.add_argument("--within", type=float, default=20, help="seconds, for each order")
    asyncio.run(run(parser.parse_args()))


main()
