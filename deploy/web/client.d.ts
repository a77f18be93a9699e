/** A notification, as its row is now (GET …/stream/, event `notification`). */
export interface Notification {
  id: number | string;
  user: number | string;
  notification_type: string;
  title: string;
  message: string;
  lead_id: number | null;
  task_id: number | null;
  reminder_id: number | null;
  metadata: Record<string, unknown> | null;
  task_data?: Record<string, unknown> | null;
  lead_data?: Record<string, unknown> | null;
  reminder_data?: Record<string, unknown> | null;
  is_read: boolean;
  read_at: string | null;
  created_at: string;
  updated_at: string;
  /** What the adopter's own view adds. */
  [key: string]: unknown;
}

/**
 * - `connecting`: no stream at the moment, and the next attempt is planned;
 * - `live`: every notification from here on comes: load the list when this comes first;
 * - `offline`: the browser says that there is no network;
 * - `signed-out`, `refused`, `closed`: the end; call `connect` again when that has changed.
 */
export type State = "connecting" | "live" | "offline" | "signed-out" | "refused" | "closed";

export interface Options {
  /**
   * Gives the token for `Authorization`. `refused`: the last one was not taken, or is about to
   * expire: get a new one. `null`: nobody is signed in. Where this is absent, the browser's
   * cookie goes with the request.
   */
  token?: (refused: boolean) => Promise<string | null> | string | null;
  onNotification?(notification: Notification): void;
  /** With `changes`: the row, as it is now. */
  onUpdated?(notification: Notification): void;
  /** With `changes`: the row is no more this user's. */
  onRemoved?(id: number | string): void;
  /** With `count`: how many are unread; `more`: at least so many. */
  onUnread?(count: number, more: boolean): void;
  /** What was missed cannot be proven, or is too much: reload the list. */
  onReset?(reason: string): void;
  /** `detail` says why: the code of an error, and for `refused` the server's sentence. */
  onState?(state: State, detail: string): void;
  /** In front of `/stream/`; default `/api/notifications`. */
  base?: string;
  /** One stream for all tabs; default true. */
  share?: boolean;
  /** Names whose tabs share. Default: what the token says, else whom the server names. */
  user?: string;
  /** Begin with the notifications that are unread. */
  replay?: "unread";
  /** Ask for `onUpdated`, `onRemoved` and bulk changes; default false. */
  changes?: boolean;
  /** Ask for `onUnread`; default false. */
  count?: boolean;
  /** Notification types that are wanted; default all. */
  types?: string[];
}

export interface Feed {
  /** Ends it for this tab. */
  close(): void;
  /** Ends it for all tabs of this user, and the session where the cookie was used. */
  signOut(): Promise<void>;
  readonly state: State;
  /** Whether this tab holds the stream. */
  readonly leading: boolean;
}

export function connect(options: Options): Feed;
