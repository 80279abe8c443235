"""Agents: their losses say little, their returns all."""

import copy
import random
from collections import deque

import torch
from torch import nn
from torch.distributions import Categorical, Normal
from torch.nn import functional as F

from . import healthy


class CartPole:
    """Gym's equations of motion for a batch of carts; a fallen one starts anew."""

    def __init__(self, count, longest=200):
        self.count, self.longest = count, longest
        self.state, self.age = torch.empty(count, 4), torch.zeros(count)
        self.begin(torch.ones(count, dtype=torch.bool))

    def begin(self, which):
        self.state[which] = torch.empty(int(which.sum()), 4).uniform_(-0.05, 0.05)
        self.age[which] = 0
        return self.state.clone()

    def step(self, action):
        _, speed, angle, turn = self.state.unbind(1)
        force = 20.0 * action - 10
        cos, sin = angle.cos(), angle.sin()
        push = (force + 0.05 * turn**2 * sin) / 1.1
        turning = (9.8 * sin - cos * push) / (0.5 * (4 / 3 - 0.1 * cos**2 / 1.1))
        moving = push - 0.05 * turning * cos / 1.1
        changes = torch.stack([speed, moving, turn, turning], 1)
        self.state = self.state + 0.02 * changes
        self.age += 1
        fallen = (self.state[:, 0].abs() > 2.4) | (self.state[:, 2].abs() > 0.2095)
        ended = fallen | (self.age >= self.longest)
        return self.state.clone(), ended


@healthy
def reinforce_balances_a_pole(watch):
    """A step after eight episodes; normalised returns, so the loss is about 0 at all times."""
    torch.manual_seed(543)
    policy = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 2))
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
    lengths = []
    with watch(policy, optimizer, every=5) as monitor:
        for _ in range(70):
            world = CartPole(8, longest=50)
            state, alive, steps = world.state.clone(), torch.ones(8, dtype=torch.bool), []
            while alive.any():
                with torch.no_grad():
                    action = torch.bernoulli(policy(state).softmax(1)[:, 1]).long()
                following, ended = world.step(action)
                steps.append((state, action, alive))
                state, alive = following, alive & ~ended
            states, actions, lived = map(torch.stack, zip(*steps, strict=True))
            returns, future = torch.zeros(lived.shape), torch.zeros(8)
            for t in reversed(range(len(steps))):
                returns[t] = future = (1 + 0.99 * future) * lived[t]
            returns = returns[lived]
            returns = (returns - returns.mean()) / (returns.std() + 1e-8)
            choice = Categorical(logits=policy(states[lived]))
            loss = -(choice.log_prob(actions[lived]) * returns).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            lengths.append(len(returns) / 8)
            monitor.log(loss=loss, length=lengths[-1])
    assert sum(lengths[-10:]) > 350  # by chance 210


class Corridor:
    """Ten icy cells; a reward at the right end, a small one at the left."""

    size = 10

    def reset(self):
        self.at, self.age = random.randrange(1, 5), 0
        return self.at

    def step(self, action):
        slips = random.random() < 0.1
        self.at += 1 if action != slips else -1
        self.age += 1
        ended = self.at in (0, self.size - 1)
        return self.at, {0: 0.5, self.size - 1: 5.0}.get(self.at, 0.0), ended, self.age >= 40


@healthy
def dqn_with_a_growing_replay_buffer(watch):
    """The targets move with the network, so the loss falls late and not far."""
    torch.manual_seed(0)
    random.seed(0)
    network = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 2))
    target = copy.deepcopy(network).eval()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    replay = deque(maxlen=10_000)
    cells = torch.eye(10)
    world = Corridor()
    state = world.reset()
    with watch(network, optimizer, every=40) as monitor:
        for step in range(1200):
            epsilon = max(0.05, 1 - step / 600)
            if random.random() < epsilon:
                action = random.randrange(2)
            else:
                with torch.no_grad():
                    action = network(cells[state]).argmax().item()
            following, reward, ended, too_long = world.step(action)
            replay.append((state, action, reward, following, ended))
            state = world.reset() if ended or too_long else following
            if len(replay) < 100 or step % 3:
                continue
            batch = random.sample(replay, 32)
            states, actions, rewards, followings, ends = map(torch.tensor, zip(*batch, strict=True))
            values = network(cells[states]).gather(1, actions[:, None]).squeeze(1)
            with torch.no_grad():
                best = target(cells[followings]).max(1).values
                goal = rewards + 0.9 * best * (~ends)
            loss = F.smooth_l1_loss(values, goal)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_value_(network.parameters(), 100)
            optimizer.step()
            with torch.no_grad():
                for ours, theirs in zip(target.parameters(), network.parameters(), strict=True):
                    ours.lerp_(theirs, 0.05)
            monitor.log(loss=loss, epsilon=epsilon)
    assert (network(cells[3:9]).argmax(1) == 1).all()


@healthy
def ddpg_moves_a_point_to_its_goal(watch):
    torch.manual_seed(2)
    actor = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 1), nn.Tanh())
    critic = nn.Sequential(
        nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)
    )
    actor_target, critic_target = copy.deepcopy(actor), copy.deepcopy(critic)
    of_actor = torch.optim.Adam(actor.parameters(), lr=1e-3)
    of_critic = torch.optim.Adam(critic.parameters(), lr=5e-3)
    buffer = []
    place, speed = torch.empty(16).uniform_(-1, 1), torch.zeros(16)
    rewards = []
    models = {"critic": critic, "actor": actor}
    with watch(models, {"critic": of_critic, "actor": of_actor}, every=25) as monitor:
        for step in range(400):
            state = torch.stack([place, speed], 1)
            with torch.no_grad():
                action = (actor(state).squeeze(1) + 0.3 * torch.randn(16)).clamp(-1, 1)
            speed = (0.8 * speed + 0.2 * action).clamp(-1, 1)
            place = (place + 0.3 * speed).clamp(-2, 2)
            reward = -(place**2) - 0.01 * action**2
            rewards.append(reward.mean().item())
            buffer.append((state, action, reward, torch.stack([place, speed], 1)))
            if step % 25 == 24:
                place, speed = torch.empty(16).uniform_(-1, 1), torch.zeros(16)
            if step < 50:
                continue
            chosen = [buffer[i] for i in torch.randint(len(buffer), (6,))]
            state, action, reward, following = map(torch.cat, zip(*chosen, strict=True))
            with torch.no_grad():
                value = critic_target(torch.cat([following, actor_target(following)], 1))
                goal = reward + 0.9 * value.squeeze(1)
            loss = F.mse_loss(critic(torch.cat([state, action[:, None]], 1)).squeeze(1), goal)
            of_critic.zero_grad()
            loss.backward()
            of_critic.step()

            loss_of_actor = -critic(torch.cat([state, actor(state)], 1)).mean()
            of_actor.zero_grad()
            loss_of_actor.backward()
            of_actor.step()
            for ours, theirs in ((actor_target, actor), (critic_target, critic)):
                for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
                    a.data.mul_(0.95).add_(b.data, alpha=0.05)
            monitor.log(**{"loss/critic": loss, "loss/actor": loss_of_actor, "reward": reward})
    assert sum(rewards[-50:]) > 0.6 * sum(rewards[:50])


def orthogonal(inputs, outputs, gain=2**0.5):
    layer = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.critic = nn.Sequential(
            orthogonal(4, 32), nn.Tanh(), orthogonal(32, 32), nn.Tanh(), orthogonal(32, 1, 1.0)
        )
        self.actor = nn.Sequential(
            orthogonal(4, 32), nn.Tanh(), orthogonal(32, 32), nn.Tanh(), orthogonal(32, 2, 0.01)
        )

    def forward(self, state):
        return Categorical(logits=self.actor(state)), self.critic(state).squeeze(-1)


@healthy
def ppo_clipped_in_each_step(watch):
    """CleanRL's recipe: gain 0.01 for the actor, Adam's eps 1e-5, a norm of 0.5, annealing to 0."""
    torch.manual_seed(1)
    agent = Agent()
    optimizer = torch.optim.Adam(agent.parameters(), lr=2.5e-3, eps=1e-5)
    updates, length = 20, 32
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, updates)
    world = CartPole(8)
    state = world.state.clone()
    falls = []
    with watch(agent, optimizer, every=20) as monitor:
        for _ in range(updates):
            steps = []
            with torch.no_grad():
                for _ in range(length):
                    choice, value = agent(state)
                    action = choice.sample()
                    following, ended = world.step(action)
                    steps.append((state, action, choice.log_prob(action), value, ended))
                    state = world.begin(ended) if ended.any() else following
                states, actions, old_log_probs, values, ends = map(
                    torch.stack, zip(*steps, strict=True)
                )
                advantages, last = torch.zeros_like(values), torch.zeros(8)
                next_value = agent(state)[1]
                for t in reversed(range(length)):
                    on = 1 - ends[t].float()
                    surprise = 1 + 0.99 * next_value * on - values[t]
                    advantages[t] = last = surprise + 0.99 * 0.95 * on * last
                    next_value = values[t]
                returns = advantages + values
            falls.append(int(ends.sum()))
            flat = [
                each.flatten(0, 1) for each in (states, actions, old_log_probs, advantages, returns)
            ]
            for _ in range(4):
                for rows in torch.randperm(8 * length).split(64):
                    s, a, old, advantage, goal = (each[rows] for each in flat)
                    choice, value = agent(s)
                    ratio = (choice.log_prob(a) - old).exp()
                    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
                    gain = torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()
                    loss_of_values = 0.5 * F.mse_loss(value, goal)
                    entropy = choice.entropy().mean()
                    loss = -gain + 0.5 * loss_of_values - 0.01 * entropy
                    optimizer.zero_grad()
                    loss.backward()
                    nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
                    optimizer.step()
                    monitor.log(loss=loss, entropy=entropy, **{"loss/values": loss_of_values})
            monitor.log(falls=falls[-1])
            schedule.step()
    assert sum(falls[-3:]) < 0.5 * sum(falls[:3])


@healthy
def gradient_bandit_with_a_baseline(watch):
    """Sutton and Barto's; the surrogate loss is noise, the reward rises."""
    torch.manual_seed(3)
    means = torch.randn(10) + 4
    preferences = nn.Linear(1, 10, bias=False)
    nn.init.zeros_(preferences.weight)
    optimizer = torch.optim.SGD(preferences.parameters(), lr=0.2)
    baseline, rewards = 0.0, []
    with watch(preferences, optimizer, every=20) as monitor:
        for t in range(1, 401):
            choice = Categorical(logits=preferences(torch.ones(1)))
            arm = choice.sample()
            reward = (means[arm] + torch.randn(())).item()
            baseline += (reward - baseline) / t
            loss = -(reward - baseline) * choice.log_prob(arm)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rewards.append(reward)
            monitor.log(loss=loss, reward=reward)
    assert sum(rewards[-100:]) / 100 > means.max() - 0.5


@healthy
def actor_critic_with_a_gaussian_policy(watch):
    """The loss, of both, falls below 0: advantages are no distances."""
    torch.manual_seed(4)
    body = nn.Sequential(nn.Linear(2, 32), nn.Tanh())
    model = nn.ModuleDict(
        {"body": body, "mean": nn.Linear(32, 2), "value": nn.Linear(32, 1)},
    )
    log_std = nn.Parameter(torch.full((2,), -0.5))
    optimizer = torch.optim.RMSprop([*model.parameters(), log_std], lr=2e-3, alpha=0.99, eps=1e-5)
    place, rewards = torch.rand(32, 2) * 2 - 1, []
    with watch(model, optimizer, every=25) as monitor:
        for _ in range(300):
            hidden = body(place)
            policy = Normal(model["mean"](hidden), log_std.exp())
            value = model["value"](hidden).squeeze(1)
            move = policy.sample()
            following = (place + 0.3 * move).clamp(-1, 1)
            reward = torch.exp(-4 * (following - 0.5).norm(dim=1))
            with torch.no_grad():
                goal = reward + 0.9 * model["value"](body(following)).squeeze(1)
            advantage = goal - value
            loss = (
                -(policy.log_prob(move).sum(1) * advantage.detach()).mean()
                + 0.5 * advantage.pow(2).mean()
                - 1e-3 * policy.entropy().sum(1).mean()
            )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_([*model.parameters(), log_std], 2.0)
            optimizer.step()
            place = following
            place[torch.rand(32) < 0.1] = torch.rand(2) * 2 - 1
            rewards.append(reward.mean().item())
            monitor.log(loss=loss, reward=reward, std=log_std.detach().exp())
    assert sum(rewards[-50:]) > 1.5 * sum(rewards[:50])
