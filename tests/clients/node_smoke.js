// node's pg: simple and named queries, transactions, errors, a pool, notifications.
const assert = require('assert');
const { Client, Pool } = require('pg');

async function main() {
  const client = new Client();
  await client.connect();
  await client.query('DROP TABLE IF EXISTS smoke_node');
  await client.query('CREATE TABLE smoke_node (id int PRIMARY KEY, name text)');
  await client.query('BEGIN');
  for (let i = 0; i < 100; i++) {
    await client.query({ name: 'insert', text: 'INSERT INTO smoke_node VALUES ($1, $2)', values: [i, `name ${i}`] });
  }
  await client.query('COMMIT');
  await assert.rejects(client.query('INSERT INTO smoke_node VALUES ($1, $2)', [1, 'twice']), { code: '23505' });

  await client.query('BEGIN');
  const count = await client.query('SELECT count(*)::int AS n FROM smoke_node');
  assert.strictEqual(count.rows[0].n, 100);
  await client.query('ROLLBACK');

  const heard = new Promise((resolve) => client.on('notification', (message) => resolve(message.payload)));
  await client.query('LISTEN smoke_node_channel');
  await client.query("NOTIFY smoke_node_channel, 'hello'");
  assert.strictEqual(await heard, 'hello');

  const results = await client.query('SELECT 1 AS one; SELECT 2 AS two');
  assert.strictEqual(results[1].rows[0].two, 2);
  await client.query('DROP TABLE smoke_node');
  await client.end();

  const pool = new Pool({ max: 2 });
  const answers = await Promise.all(Array.from({ length: 50 }, (_, i) => pool.query('SELECT $1::int + 1 AS n', [i])));
  answers.forEach((answer, i) => assert.strictEqual(answer.rows[0].n, i + 1));
  await pool.end();
  console.log('ok');
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
