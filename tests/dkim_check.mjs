// What mailauth says of the DKIM signatures of mails: node dkim_check.mjs DKIM_TXT MAIL... prints {file: [{algorithm, result}]}.
// DKIM_TXT holds lines "name record"; nothing is looked up elsewhere. PLI_NODE_MODULES: another folder than ./node_modules.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

const beside = path.dirname(new URL(import.meta.url).pathname);
const modules = process.env.PLI_NODE_MODULES || path.join(beside, 'node_modules');
const { dkimVerify } = createRequire(path.join(modules, 'x.js'))('mailauth/lib/dkim/verify');

const [records, ...mails] = process.argv.slice(2);
const known = new Map(
  readFileSync(records, 'utf8').split('\n').filter(Boolean).map(line => [line.slice(0, line.indexOf(' ')), line.slice(line.indexOf(' ') + 1)])
);

const resolver = async (name, type) => {
  const record = known.get(name.replace(/\.$/, ''));
  if (type === 'TXT' && record) return [[record]];
  const error = new Error(`no ${type} record of ${name}`);
  error.code = 'ENOTFOUND';
  throw error;
};

const found = {};
for (const mail of mails) {
  const { results } = await dkimVerify(readFileSync(mail), { resolver });
  found[mail] = results.map(({ algo, status, signingDomain, selector }) => ({
    algorithm: algo, result: status.result, domain: signingDomain, selector
  }));
}
process.stdout.write(JSON.stringify(found));
