// node's pg with pg-cursor and pg-query-stream: simple, parametrised and named statements, queries queued without
// waiting, cursors, streams and a pool, with errors in the middle, in and out of transactions.
//
// Every scenario runs at every port of $PORTS. A failure is printed with its port and name, and the others still run.
const assert = require('assert');
const { Client, Pool } = require('pg');
const Cursor = require('pg-cursor');
const QueryStream = require('pg-query-stream');

const SECONDS_EACH = 60;
const TABLE = 'matrix_node';
const PUT = `INSERT INTO ${TABLE} (id, note) VALUES ($1, $2)`;
const GET = `SELECT note FROM ${TABLE} WHERE id = $1`;
const COUNT = `SELECT count(*)::int AS n FROM ${TABLE}`;
const HALF = 'SELECT 100 / $1::int AS n';
const TWICE = { code: '23505' };
const DIVISION = { code: '22012' };
const ABORTED = { code: '25P02' };

// How a statement is sent: one-off with parameters, named and prepared once, or as a text with the values inside.
const MODES = {
  parameters: (text, values) => ({ text, values }),
  named: (text, values) => ({ text, values, name: text.slice(0, 60) }),
  simple: (text, values) => ({ text: values.reduce((sql, value, i) => sql.replace(`$${i + 1}`, literal(value)), text) }),
};

function literal(value) {
  return typeof value === 'number' ? String(value) : `'${value}'`;
}

// A client, with an empty table, whose `run(text, ...values)` sends in one mode.
async function everyMode(port, test) {
  for (const [mode, build] of Object.entries(MODES)) {
    const client = new Client({ port });
    await client.connect();
    try {
      await client.query(`DELETE FROM ${TABLE}`);
      const run = (text, ...values) => client.query(build(text, values));
      const one = async (text, ...values) => Object.values((await run(text, ...values)).rows[0] ?? {})[0];
      await test({ mode, client, run, one });
    } finally {
      await client.end();
    }
  }
}

const scenarios = {
  async autocommit(port) {
    await everyMode(port, async ({ mode, run, one }) => {
      for (let i = 0; i < 8; i++) {
        await run(PUT, i, `note ${i}`);
        assert.strictEqual(await one(GET, i), `note ${i}`, `${mode}: a read after an insert`);
        await assert.rejects(run(PUT, 0, 'twice'), TWICE);
        await assert.rejects(run(HALF, 0), DIVISION);
        await assert.rejects(run('SELEC 1'), { code: '42601' });
        assert.strictEqual(await one(HALF, 50), 2, `${mode}: a read after errors`);
        assert.strictEqual(await one(COUNT), i + 1, `${mode}: the count`);
      }
    });
  },

  async transactions(port) {
    await everyMode(port, async ({ mode, run, one }) => {
      for (let i = 0; i < 5; i++) {
        await run('BEGIN');
        assert.strictEqual(await one(GET, i), undefined, `${mode}: nothing there yet`);
        await run(PUT, i, 'mine');
        assert.strictEqual(await one(GET, i), 'mine', `${mode}: own row`);
        await run('COMMIT');
        await run('BEGIN ISOLATION LEVEL REPEATABLE READ');
        await run(PUT, 100, 'lost');
        assert.strictEqual(await one(COUNT), i + 2, `${mode}: own count`);
        await run('ROLLBACK');
        assert.strictEqual(await one(COUNT), i + 1, `${mode}: rolled back`);
      }
    });
  },

  async failedTransactions(port) {
    await everyMode(port, async ({ mode, run, one }) => {
      for (let i = 0; i < 5; i++) {
        await run('BEGIN');
        await run(PUT, 1, 'lost');
        await assert.rejects(run(HALF, 0), DIVISION);
        await assert.rejects(run(COUNT), ABORTED);
        await assert.rejects(run(PUT, 2, 'lost'), ABORTED);
        assert.strictEqual((await run(i % 2 ? 'COMMIT' : 'ROLLBACK')).command, 'ROLLBACK', mode);
        assert.strictEqual(await one(COUNT), 0, `${mode}: rolled back`);
      }
    });
  },

  async savepoints(port) {
    await everyMode(port, async ({ mode, run, one }) => {
      for (let i = 0; i < 4; i++) {
        await run('BEGIN');
        await run(PUT, 10 * i, 'kept');
        await run('SAVEPOINT one');
        await run(PUT, 10 * i + 1, 'lost');
        await assert.rejects(run(PUT, 10 * i, 'twice'), TWICE);
        await run('ROLLBACK TO SAVEPOINT one');
        assert.strictEqual(await one(COUNT), i + 1, `${mode}: after ROLLBACK TO`);
        assert.strictEqual(await one(GET, 10 * i + 1), undefined, `${mode}: the lost row`);
        await run('COMMIT');
        assert.strictEqual(await one(COUNT), i + 1, `${mode}: after COMMIT`);
      }
    });
  },

  // The driver queues them and sends each when the one before is done; errors hit only their own.
  async queuedQueries(port) {
    await everyMode(port, async ({ mode, run }) => {
      const sent = [];
      for (let i = 0; i < 50; i++) {
        sent.push(run(PUT, i, `note ${i}`), run(GET, i), run(HALF, i % 10), run(PUT, i, 'twice'), run(COUNT));
      }
      const results = await Promise.allSettled(sent);
      for (let i = 0; i < 50; i++) {
        const [put, get, half, twice, count] = results.slice(5 * i, 5 * i + 5);
        assert.strictEqual(put.value?.rowCount, 1, `${mode}: insert ${i}: ${put.reason}`);
        assert.strictEqual(get.value?.rows[0].note, `note ${i}`, `${mode}: read ${i}: ${get.reason}`);
        if (i % 10) assert.strictEqual(half.value?.rows[0].n, Math.trunc(100 / (i % 10)), `${mode}: half ${i}: ${half.reason}`);
        else assert.strictEqual(half.reason?.code, '22012', `${mode}: half ${i}`);
        assert.strictEqual(twice.reason?.code, '23505', `${mode}: twice ${i}`);
        assert.strictEqual(count.value?.rows[0].n, i + 1, `${mode}: count ${i}: ${count.reason}`);
      }
    });
  },

  async cursors(port) {
    const all = `SELECT id FROM ${TABLE} WHERE id >= $1 ORDER BY id`;
    await everyMode(port, async ({ mode, client, run, one }) => {
      await run(`INSERT INTO ${TABLE} SELECT n, 'note' FROM generate_series(0, 499) n`);
      for (const transaction of [true, false, true]) {
        if (transaction) await run('BEGIN');
        const cursor = client.query(new Cursor(all, [0]));
        let seen = [];
        for (let rows; (rows = await cursor.read(37)).length; ) seen = seen.concat(rows.map((row) => row.id));
        assert.deepStrictEqual(seen, [...Array(500).keys()], `${mode}: all rows`);
        await cursor.close();
        const early = client.query(new Cursor(all, [100]));
        assert.strictEqual((await early.read(5))[4].id, 104, `${mode}: a cursor closed early`);
        await early.close();
        assert.strictEqual(await one(COUNT), 500, `${mode}: after a cursor`);
        if (transaction) await run('COMMIT');
      }
      for (const transaction of [true, false]) {
        if (transaction) await run('BEGIN');
        const bad = client.query(new Cursor('SELECT 10 / ($1 - n) AS n FROM generate_series(1, 10) n', [5]));
        assert.deepStrictEqual((await bad.read(4)).map((row) => row.n), [2, 3, 5, 10], `${mode}: up to the error`);
        await assert.rejects(bad.read(4), DIVISION);
        if (transaction) await run('ROLLBACK');
        assert.strictEqual(await one(COUNT), 500, `${mode}: after an error in a cursor`);
      }
    });
  },

  async streams(port) {
    await everyMode(port, async ({ mode, client, run, one }) => {
      for (let i = 0; i < 4; i++) {
        let sum = 0;
        const stream = client.query(new QueryStream('SELECT n FROM generate_series(1, $1::int) n', [2000], { batchSize: 150 }));
        for await (const row of stream) sum += row.n;
        assert.strictEqual(sum, 2001000, `${mode}: all rows`);
        await run(PUT, i, 'between streams');
      }
      for await (const row of client.query(new QueryStream('SELECT n FROM generate_series(1, 100000) n', []))) {
        if (row.n === 10) break;
      }
      assert.strictEqual(await one(COUNT), 4, `${mode}: after a stream left early`);
      const bad = client.query(new QueryStream('SELECT 10 / (500 - n) FROM generate_series(1, 1000) n', []));
      await assert.rejects(async () => { for await (const _ of bad); }, DIVISION);
      assert.strictEqual(await one(COUNT), 4, `${mode}: after an error in a stream`);
    });
  },

  async severalStatementsInOneText(port) {
    await everyMode(port, async ({ mode, client, one }) => {
      const results = await client.query(`INSERT INTO ${TABLE} VALUES (1, 'one'); ${COUNT}; SELECT 7 AS n`);
      assert.deepStrictEqual(results.slice(1).map((result) => result.rows[0].n), [1, 7], mode);
      await assert.rejects(client.query(`INSERT INTO ${TABLE} VALUES (2, 'two'); SELECT 1 / 0`), DIVISION);
      assert.strictEqual(await one(COUNT), 1, `${mode}: an implicit transaction`);
    });
  },

  async settingsAndErrorsOfNames(port) {
    const show = `SELECT current_setting('application_name') AS name FROM ${TABLE} LIMIT 1`;
    await everyMode(port, async ({ mode, run, one }) => {
      await run(PUT, 1, 'one');
      for (let i = 0; i < 3; i++) {
        await run(`SET application_name = 'number ${i}'`);
        assert.strictEqual(await one(show), `number ${i}`, `${mode}: SET`);
        await run('BEGIN');
        await run("SET LOCAL application_name = 'local'");
        assert.strictEqual(await one(show), 'local', `${mode}: SET LOCAL`);
        await run('COMMIT');
        assert.strictEqual(await one(show), `number ${i}`, `${mode}: after SET LOCAL`);
        await assert.rejects(run('SELECT * FROM no_such_table'), { code: '42P01' });
        await assert.rejects(run('SELECT no_such_function()'), { code: '42883' });
      }
      await run('RESET ALL');
      await run('DISCARD ALL');
    });
  },

  async pool(port) {
    const pool = new Pool({ port, max: 4 });
    await pool.query(`DELETE FROM ${TABLE}`);
    const work = async (task) => {
      for (let i = 0; i < 10; i++) {
        const id = 100 * task + i;
        const client = await pool.connect();
        try {
          await client.query('BEGIN');
          await client.query(PUT, [id, 'pooled']);
          assert.strictEqual((await client.query(GET, [id])).rows[0].note, 'pooled', 'own row');
          await client.query(HALF, [i % 3]);
          await client.query('COMMIT');
        } catch (error) {
          if (error.code !== '22012') throw error;
          await client.query('ROLLBACK');
        } finally {
          client.release();
        }
        assert.strictEqual((await pool.query(GET, [id])).rowCount, i % 3 ? 1 : 0, `task ${task}, row ${i}`);
      }
    };
    await Promise.all(Array.from({ length: 12 }, (_, task) => work(task)));
    assert.strictEqual((await pool.query(COUNT)).rows[0].n, 12 * 6);
    await pool.end();
  },

  async largeValues(port) {
    await everyMode(port, async ({ mode, run, one }) => {
      const long = '0123456789'.repeat(300000);
      await run(PUT, 1, long);
      assert.ok((await one(GET, 1)) === long, `${mode}: 3 MB in and out`);
      assert.strictEqual(await one('SELECT length($1::text)', long), long.length, `${mode}: a parameter of a read`);
    });
  },
};

async function main() {
  let failures = 0;
  for (const port of process.env.PORTS.split(' ').map(Number)) {
    for (const [name, scenario] of Object.entries(scenarios)) {
      const watch = setTimeout(() => {
        console.error(`HANGS at port ${port}: ${name}`);
        process.exit(1);
      }, SECONDS_EACH * 1000);
      const started = Date.now();
      try {
        await scenario(port);
      } catch (error) {
        failures++;
        console.error(`FAILED at port ${port}: ${name}`, error);
      }
      clearTimeout(watch);
      console.error(`${Date.now() - started} ms  ${port}  ${name}`);
    }
  }
  if (failures) process.exit(1);
  console.log('ok');
}

main();
