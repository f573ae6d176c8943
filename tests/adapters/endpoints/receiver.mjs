// As receiver.py, for signatures alone.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const { Webhook } = createRequire(`${process.env.NODE_MODULES}/`)("standardwebhooks");
const post = JSON.parse(readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(new Webhook(post.secret).verify(post.body, post.headers)));
