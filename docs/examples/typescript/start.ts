// Starts a run and waits for its result: `npm install && npm start -- REQUEST_ID`.
import { ApplicationFailure, Client, Connection, WorkflowFailedError } from '@temporalio/client';

// The part that is used here of contracts/schemas/run-result.json.
interface RunResult {
  run_id: string;
  images: { uri: string; sha256: string; media_type: string; bytes: number; width: number; height: number }[];
  cost: { amount_usd: string | null; basis: string };
  billing: { state: string; entry_id: string; reason: string | null };
}

type ImageGeneration = (request: object) => Promise<RunResult>;

const tenant = 'acme';
const requestId = process.argv[2];
const connection = await Connection.connect({ address: process.env.TEMPORAL_ADDRESS ?? 'localhost:7233' });
const client = new Client({ connection });

try {
  const handle = await client.workflow.start<ImageGeneration>('ImageGeneration', {
    taskQueue: 'image-runs',
    workflowId: `image:${tenant}:${requestId}`,
    args: [{ model: 'gpt-image-2', prompt: 'A lighthouse at dawn', size: '1024x1024', quality: 'low', tenant }],
    workflowIdConflictPolicy: 'USE_EXISTING',
    workflowIdReusePolicy: 'ALLOW_DUPLICATE',
  });
  const status = await handle.query<{ stage: string }>('status');
  console.error(`${handle.workflowId} is ${status.stage}`);
  console.log(JSON.stringify(await handle.result(), null, 2));
} catch (error) {
  if (!(error instanceof WorkflowFailedError && error.cause instanceof ApplicationFailure)) throw error;
  console.error(`${error.cause.type}: ${error.cause.message}`);
  console.log(JSON.stringify(error.cause.details)); // of RequestRefused: the problems
  process.exitCode = 1;
} finally {
  await connection.close();
}
